"""``dermfuse figures``: the paper's figures, drawn from one's own runs and predictions."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import Annotated

import typer

from dermfuse.cli.console import progress, say, say_json, say_notice
from dermfuse.cli.extras import require_figures_extra
from dermfuse.cli.models import Data
from dermfuse.runs import require_free


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command()(figures)


def figures(  # noqa: PLR0913 — an option each
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders and predictions folders.")
    ],
    *,
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
    draws: Annotated[int, typer.Option("--draws", help="Draws of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap and of t-SNE.")] = 0,
    paper: Annotated[
        bool, typer.Option("--paper", help="Draw the paper's Figs. 8 to 14 alone.")
    ] = False,
    webp: Annotated[
        bool, typer.Option("--webp", help="Write WebP, a fifth as large, in place of PNG.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw the paper's Figs. 8 to 14 and diagnostic plots.

    Run folders give training curves, activation maps and t-SNE; predictions folders the rest.
    What cannot be drawn from them is listed, with the reason.
    """
    require_figures_extra("dermfuse figures")
    from dermfuse.figures.gather import captions, draw_figures, write_figures
    from dermfuse.figures.sources import is_run

    require_free(out, what="figures")
    runs = [folder for folder in folders if is_run(folder)]
    predictions = [folder for folder in folders if folder not in runs]
    not_drawn: list[tuple[str, str]] = []
    with progress("Drawing"):
        pictures = draw_figures(
            runs,
            predictions,
            data=data,
            draws=draws,
            seed=seed,
            paper=paper,
            skipped=lambda figure, why: not_drawn.append((figure, why)),
        )
    write_figures(out, pictures, webp=webp, not_drawn=not_drawn)
    said = captions(pictures, not_drawn, webp=webp)
    if json:
        say_json(said)
        return
    for each in said["figures"]:
        say(f"{out / each['file']}  {each['title']}")
    for figure, why in not_drawn:
        say(f"{figure} is not drawn: {why}")
    say_notice()
