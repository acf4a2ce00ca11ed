"""Result pages: one self-contained HTML file, readable offline, in light and in dark."""

from dermfuse.report.page import Finding, Page, Picture, Table, render_page

__all__ = ["Finding", "Page", "Picture", "Table", "render_page"]
