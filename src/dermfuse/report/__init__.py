"""Result pages: one self-contained HTML file, readable offline, in light and in dark."""

from dermfuse.report.chart import Chart, Series
from dermfuse.report.overlay import Example
from dermfuse.report.page import Finding, Page, Plate, Table, render_page

__all__ = ["Chart", "Example", "Finding", "Page", "Plate", "Series", "Table", "render_page"]
