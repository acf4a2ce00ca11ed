"""Options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option


def folder(sentence: str, *names: str) -> Any:  # noqa: ANN401 — Typer's option is of no public type
    """Returns an option that takes a folder.

    Args:
        sentence: Its help.
        names: What it is called; like its parameter if left out.
    """
    return Option(*names, metavar="DIR", help=sentence)


Json = Annotated[bool, Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, folder("The folder to write.")]
ResumedOut = Annotated[Path, folder("The folder to write, or to continue.")]
Data = Annotated[list[Path], folder("A dataset folder; several are joined.")]
MaybeData = Annotated[list[Path] | None, folder("A dataset folder; several are joined.")]
Imagenet = Annotated[Path | None, folder("ImageNet weights; else downloaded.")]
LeaveOut = Annotated[
    Path | None, Option(metavar="FILE", help="CSV of image_id,part not to be used.")
]
ReportOn = Annotated[
    list[Path] | None,
    Option(
        metavar="DIR|CSV",
        help="Also measure these images alone: a folder, or a list of ids; may be repeated.",
    ),
]
Preset = Annotated[
    str,
    Argument(metavar="PRESET", help="As `dermfuse presets` lists it, or a TOML file of your own."),
]
Assignments = Annotated[
    list[str] | None,
    Option("--set", metavar="TABLE.KEY=VALUE", help="Change a setting; may be repeated."),
]
Parts = Annotated[
    str | None,
    Option(metavar="PART,...", help="Of validation, test, and both with -tta for all symmetries."),
]
Tta = Annotated[bool, Option("--tta", help="Mean over the square's eight symmetries; 8 x as slow.")]
ReleaseFolder = Annotated[Path | None, folder("Networks of your own; else the package's.")]
Looks = Annotated[
    int | None,
    Option(metavar="N", help="Orientations averaged: 1, 4 or 8; else the release's."),
]
FolderA = Annotated[Path, Argument(metavar="A", help="A predictions folder.")]
FolderB = Annotated[Path, Argument(metavar="B", help="Another, of the same images.")]
Folders = Annotated[list[Path], Argument(metavar="DIR...", help="Predictions folders.")]
Truth = Annotated[list[Path], folder("Labels and masks; several folders are joined.")]
Draws = Annotated[int, Option(help="Draws of the bootstrap.")]
Seed = Annotated[int, Option(help="Seed of what is drawn.")]
Partial = Annotated[
    bool, Option("--partial", help="Evaluate what is there if test images are missing.")
]
Pages = Annotated[
    list[Path] | None,
    Option("--summary", metavar="PAGE", help="Replace its table in this page; repeatable."),
]
DryRun = Annotated[
    bool, Option("--dry-run", help="Say what would be trained, in which order, how long.")
]
Jobs = Annotated[
    str | None,
    Option(
        metavar="N|auto",
        help="Trainings side by side; auto (the default on a GPU): one per core, up to what fits"
        " the memory.",
    ),
]
Deadline = Annotated[
    float | None,
    Option(
        metavar="MINUTES",
        help="End training at the last whole epoch then; the same command continues.",
    ),
]


def split_names(text: str | None) -> list[str]:
    """Returns what an option names with commas between; nothing where it is left out.

    Example:
        >>> split_names("III, V"), split_names(None)
        (['III', 'V'], [])
    """
    return [] if text is None else [name.strip() for name in text.split(",")]
