"""The model card of a release: a page whose every number comes from a file."""

from dermfuse.card.content import Card, CardSources, gather_card
from dermfuse.card.page import render_card, render_summary, write_card_page

__all__ = ["Card", "CardSources", "gather_card", "render_card", "render_summary", "write_card_page"]
