"""A model card as Markdown; its words stand in card.md and checklists.md, its numbers nowhere."""

from importlib import resources
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined

from dermfuse.data.audit import OFFICIAL_TOTALS
from dermfuse.evaluation.bootstrap import DRAWS
from dermfuse.folders import NOTICE, write_json, write_text
from dermfuse.publishing import card_tables as tables
from dermfuse.publishing.card import Card

_TEMPLATES = ("card.md", "checklists.md")


def render_card(card: Card) -> str:
    """Returns the card in Markdown."""
    folder = resources.files("dermfuse.publishing")
    environment = Environment(  # noqa: S701 — Markdown, of our own files, is no HTML to escape
        loader=DictLoader(
            {name: (folder / name).read_text(encoding="utf-8") for name in _TEMPLATES}
        ),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md").render(
        card=card,
        measured=card.measured,
        facts=card.measured.facts,
        tables=tables,
        official=OFFICIAL_TOTALS["train"],
        draws=DRAWS,
        notice=NOTICE,
    )


def render_summary(card: Card) -> str:
    """Returns the card's first table and where its numbers come from, for another page."""
    scoring, outlining, facts = card.measured.scoring, card.measured.outlining, card.measured.facts
    parts = [f"Release {card.release.name}, {facts.precision or 'of unknown precision'}."]
    if scoring:
        parts.append(
            f"Scores: {scoring.images:,} images ({scoring.malignant:,} malignant), {scoring.how}."
        )
    if outlining:
        parts.append(f"Outlines: {outlining.images:,} images, {outlining.how}.")
    if facts.data:
        seeds = {str(one.train.seed) for one in facts.configurations.values()}
        parts.append(f"Data: {facts.data}, training part; seed {', '.join(sorted(seeds))}.")
    if machine := facts.measured_on.get("machine"):
        parts.append(f"Measured on a CPU ({machine}).")
    parts.append(f"Intervals: 95 %, bootstrap, {DRAWS:,} draws. Written by `dermfuse card`.")
    return f"{tables.glance(card)}\n\n{' '.join(parts)}"


def write_card_page(card: Card, out: str | Path) -> Path:
    """Writes the card, and its content as JSON beside it; returns the JSON's path.

    The JSON keeps the census of the training images, so that a later card need not count again.

    Raises:
        StorageError: They cannot be written.
    """
    out = Path(out)
    beside = out.with_suffix(".json")
    page = render_card(card)
    write_json(beside, card.to_dict())
    write_text(out, page)
    return beside
