"""``dermfuse data ...``: verify, download, synthesize and audit a dataset folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from dermfuse.cli.console import file_progress, finish, progress, say, say_notice, say_table
from dermfuse.cli.options import Json
from dermfuse.errors import ConfigError

if TYPE_CHECKING:
    from dermfuse.data.audit import AuditReport, VerificationReport
    from dermfuse.data.folders import JoinReport

app = typer.Typer(help="Verify, download, synthesize and audit a dataset folder.")

_SHOWN_IDS = 50

Folder = Annotated[Path, Argument(metavar="DIR", help="The dataset folder.")]
Datasets = Annotated[
    list[Path], Argument(metavar="DIR...", help="A dataset folder; several are joined.")
]


@app.command()
def verify(folders: Datasets, *, json: Json = False) -> None:
    """Read every file of a folder in the layout of ISIC 2016, or of several.

    Says how many images, labels and masks there are, which are missing and which are odd; and,
    of several folders, what they hold together and where they contradict each other.
    """
    from dermfuse.data.audit import verify_isic2016
    from dermfuse.data.folders import has_split, verify_join
    from dermfuse.data.groups import GROUPS_NAME

    reports = []
    for folder in folders:
        which = f" of {folder}" if len(folders) > 1 else ""
        with progress(f"Reading images and masks{which}") as advance:
            reports.append(verify_isic2016(folder, progress=advance))
    grouped = any((folder / GROUPS_NAME).exists() for folder in folders)
    joined = None
    if (len(folders) > 1 or grouped) and has_split(folders, "train"):
        with progress("Comparing the folders"):
            joined = verify_join(folders)
    records = [report.to_dict() for report in reports]
    record = records[0] if len(records) == 1 else {"folders": records}

    def show() -> None:
        for report in reports:
            if len(reports) > 1:
                say(str(report.folder))
            _show_verification(report)
        if joined:
            _show_join(joined)

    finish({**record, "joined": joined.to_dict() if joined else None}, show, json=json)


@app.command()
def download(folder: Folder) -> None:
    """Fetch the official ISIC 2016 archives.

    A download that was cut is tried again; archives are checked, then unpacked.
    """
    from dermfuse.data.download import download_isic2016

    with file_progress("Downloading") as advance:
        parts = download_isic2016(folder, progress=advance)
    rows = [
        (
            part.file_name,
            "there already" if part.was_present else f"{part.size_bytes / 1e6:.1f} MB",
            ", ".join(part.checks),
        )
        for part in parts
    ]
    say_table(("file", "fetched", "checks passed"), rows)
    say(f"ISIC 2016 lies in {folder}. Check it with: dermfuse data verify {folder}")
    say_notice()


@app.command()
def synthesize(
    folder: Folder,
    *,
    train: Annotated[int, Option(help="Training images.")] = 120,
    test: Annotated[int, Option(help="Test images.")] = 60,
    seed: Annotated[int, Option(help="What they are drawn from.")] = 0,
    size: Annotated[str, Option(metavar="WxH", help="Pixels of an image.")] = "320x240",
) -> None:
    """Draw synthetic dermoscopy in the same layout.

    With masks, labels and the interferences of Fig. 1: hair, ink, gel bubbles, discs ...
    """
    from dermfuse.data.synthetic import synthesize_isic2016

    counts = {"train_count": train, "test_count": test, "seed": seed}
    size_px = _parse_size(size)
    with progress("Drawing images") as advance:
        report = synthesize_isic2016(folder, **counts, size_px=size_px, progress=advance)
    say(
        f"{report.train_count} training images ({report.train_malignant} malignant) and "
        f"{report.test_count} test images ({report.test_malignant} malignant), "
        f"{report.width} x {report.height} px, seed {report.seed}, lie in {folder}."
    )
    say_notice()


@app.command()
def audit(folders: Datasets, *, json: Json = False) -> None:
    """Find exact and near duplicates.

    Within and across the splits: by perceptual hash, then correlation.
    """
    from dermfuse.data.audit import audit as audit_folders

    with progress("Comparing images") as advance:
        report = audit_folders(folders, progress=advance)
    finish(report.to_dict(), lambda: _show_audit(report), json=json)


def _show_verification(report: "VerificationReport") -> None:
    from dermfuse.data.isic2016 import name_some

    rows = [
        (
            f"{split.split} {name}",
            str(getattr(split.found, name)),
            str(getattr(split.official, name)),
        )
        for split in report.splits
        for name in ("images", "benign", "malignant", "masks")
    ]
    say_table(("", "here", "official"), rows)
    for absent in report.absent_splits:
        say(f"{absent}: no images here")
    for split in report.splits:
        for kind in ("images", "masks", "labels"):
            ids: tuple[str, ...] = getattr(split, f"missing_{kind}")
            if ids:
                more = " (--json names all)" * (len(ids) > _SHOWN_IDS)
                some = name_some(ids, shown=_SHOWN_IDS)
                say(f"{split.split}: {len(ids)} missing {kind}: {some}{more}")
        for rule, count in split.mask_rules.items():
            say(f"{split.split}: {count} mask{'s' * (count != 1)} read as: {rule}")
        for odd in split.odd:
            subject = f"{odd.image_id}: " if odd.image_id else ""
            say(f"{split.split}: {odd.kind}: {subject}{odd.sentence}")
    say(
        "Complete." if report.complete else "Not complete: the commands continue with what is here."
    )


def _show_join(report: "JoinReport") -> None:
    say(
        f"Together: {report.images} training images ({report.benign} benign, {report.malignant} "
        f"malignant), {report.masks} with a mask; {report.repeated} in several folders; "
        f"{report.grouped} in {report.groups} groups of two or more."
    )
    for sentence in report.contradictions:
        say(f"refused by training: {sentence}")


def _show_audit(report: "AuditReport") -> None:
    say(f"{report.image_count} images compared, {len(report.pairs)} pairs show the same photograph")
    if report.pairs:
        rows = [
            (
                pair.kind,
                f"{pair.first_id} ({pair.first_split})",
                f"{pair.second_id} ({pair.second_split})",
                pair.orientation,
                f"{pair.correlation:.4f}",
                {True: "yes", False: "NO", None: ""}[pair.labels_agree],
            )
            for pair in report.pairs
        ]
        say_table(("kind", "first", "second", "second is", "correlation", "same label"), rows)
    for sentence in report.unreadable:
        say(f"not compared: {sentence}")
    if report.test_duplicates:
        say(f"Leave out of training: {', '.join(report.test_duplicates)}")


def _parse_size(text: str) -> tuple[int, int]:
    """Returns width and height from ``320x240``."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--size is {text!r}", expected="width x height in pixels, as 320x240")
    return int(width), int(height)
