"""Result pages: one self-contained HTML file, readable offline, in light and in dark."""

from dermfuse.report.page import (
    FACTS_TITLE,
    IN_WORDS,
    Chart,
    Example,
    Finding,
    Page,
    Plate,
    Series,
    Table,
    render_page,
)

__all__ = [
    "FACTS_TITLE",
    "IN_WORDS",
    "Chart",
    "Example",
    "Finding",
    "Page",
    "Plate",
    "Series",
    "Table",
    "render_page",
]
