"""Result pages: one self-contained HTML file, readable offline, in light and in dark."""
