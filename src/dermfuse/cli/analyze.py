"""``dermfuse analyze`` and ``stress``: what the networks of a release say about images.

exit    3 where some files could not be analysed; the others were
"""

import json as json_format
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from dermfuse.cli.console import (
    SOME_FAILED,
    count_progress,
    finish,
    one_line,
    progress,
    say,
    say_error,
    say_notice,
    say_progress,
    say_table,
)
from dermfuse.cli.options import Json, Looks, Out, ReleaseFolder, folder
from dermfuse.errors import ConfigError
from dermfuse.imaging.limits import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dermfuse.analysis.analyzer import Analyzer
    from dermfuse.analysis.batch import FolderOutcome
    from dermfuse.analysis.inputs import Item
    from dermfuse.analysis.isolation import Decoders
    from dermfuse.analysis.records import Analysis
    from dermfuse.records import Estimate

_MEASURES = {
    "asymmetry": "asymmetry",
    "compactness": "compactness",
    "solidity": "solidity",
    "colours": "colour_count",
}
_NAMED = 20  # withheld images on a line; the report has all


def analyze(
    paths: Annotated[
        list[str], Argument(metavar="PATH...", help="Images, folders, CSV or Parquet lists, or -.")
    ],
    *,
    out: Annotated[Path | None, folder("Write results here, or continue what is there.")] = None,
    release: ReleaseFolder = None,
    operating_point: Annotated[
        str | None,
        Option(metavar="NAME", help="The threshold, like sensitivity95; else the release's."),
    ] = None,
    looks: Looks = None,
    threads: Annotated[
        int | None,
        Option(min=1, help="Images analysed side by side: 1; with --ray as many as it can."),
    ] = None,
    ray: Annotated[
        str | None, Option(metavar="ADDRESS", help="Analyse with Ray Data: local, auto, HOST:PORT.")
    ] = None,
    report: Annotated[bool, Option(help="Write the HTML report into --out.")] = True,
    overlays: Annotated[
        bool, Option("--overlays", help="Write outline and activation map over each image.")
    ] = False,
    masks: Annotated[
        bool, Option("--masks", help="Write each lesion's mask as a PNG file.")
    ] = False,
    score_all: Annotated[
        bool, Option("--score-all", help="Score images unlike those learnt from, too.")
    ] = False,
    max_pixels: Annotated[
        int, Option(help="Of an image; more are refused before any is decoded.")
    ] = MAX_PIXELS,
    json: Annotated[
        bool, Option("--json", help="Print JSON: an object per image, or of the folder.")
    ] = False,
) -> None:
    """Say how likely a lesion is melanoma, outline it, describe it. Research only.

    Needs no network connection, no GPU and no torch. Without --out each result is printed.
    """
    _require_out(out, overlays=overlays, masks=masks, ray=ray is not None)
    isolate: bool | Decoders = False
    if ray is None:
        isolate = _decoders(paths, threads or 1, max_pixels, in_folder=out is not None)
    from dermfuse.analysis.analyzer import Analyzer  # after decoders have begun to start

    if ray is not None:
        from dermfuse.analysis.ray import require_ray

        require_ray()
    analyzer = Analyzer(
        release,
        operating_point=operating_point,
        looks=looks,
        score_all=score_all,
        max_pixels=max_pixels,
        isolate=isolate,
    )
    if out is None:
        failed = _print_each(analyzer, paths, json=json)
    else:
        from dermfuse.analysis.batch import BulkOptions, analyze_paths

        warn = cache(_warn_of_looks)  # with the first image: the folder may be refused
        options = BulkOptions(
            threads=threads, report=report, overlays=overlays, masks=masks, ray=ray
        )
        with count_progress("Analysing images") as advance:

            def step(_: object) -> None:
                warn(analyzer)
                advance()

            outcome = analyze_paths(analyzer, paths, out, options=options, progress=step)
        finish(outcome.to_dict(), lambda: _show_outcome(outcome), json=json)
        failed = outcome.failed
    if failed:
        raise typer.Exit(SOME_FAILED)


def _decoders(
    paths: Sequence[str], count: int, max_pixels: int, *, in_folder: bool
) -> "Decoders | bool":
    """Returns what decodes many images, starting: none of them ends the work on the others."""
    from dermfuse.analysis.inputs import is_list
    from dermfuse.analysis.isolation import Decoders

    one = Path(paths[0])
    if not in_folder and len(paths) == 1 and not one.is_dir() and not is_list(one):
        return False
    return Decoders.patient(count, max_pixels=max_pixels)


def _warn_of_looks(analyzer: "Analyzer") -> None:
    """Says on stderr that the looks are not those of the release, as every result does."""
    from dermfuse.imaging.symmetries import describe_other_looks

    other = describe_other_looks(analyzer.looks, measured=analyzer.release.looks)
    if other:
        say_progress(f"dermfuse: {other}")


def _require_out(out: Path | None, **options: bool) -> None:
    """Refuses options that leave something in a folder where there is none for it."""
    wanted = [f"--{name}" for name, asked in options.items() if asked]
    if out is None and wanted:
        raise ConfigError(
            f"{' and '.join(wanted)} without --out",
            expected="a folder for the results",
            action="Add --out DIR",
        )


def _print_each(analyzer: "Analyzer", paths: Sequence[str], *, json: bool) -> int:
    """Prints every analysis as it is made; returns how many files failed."""
    from dermfuse.analysis.inputs import expand

    failed = shown = 0
    point = analyzer.operating_point
    withheld: list[str] = []
    for item in expand(paths):
        analysis = _analyze_one(analyzer, item)
        if analysis is None:
            failed += 1
            continue
        if json:
            say(json_format.dumps(analysis.to_dict(), allow_nan=False))
            continue
        _show(analysis, missed=analyzer.release.classes.sensitivity_with_missed(point))
        shown += 1
        if analysis.is_withheld:
            withheld.append(analysis.name)
    if not json:
        if shown > 1:
            _show_withheld(withheld, len(withheld))
        say_notice()
    return failed


def _analyze_one(analyzer: "Analyzer", item: "Item") -> "Analysis | None":
    """Returns an analysis; None, and a line on stderr, where there is none."""
    from dermfuse.analysis.journal import describe_fault
    from dermfuse.errors import DermfuseError

    if item.fault:
        say_error(_named(item.name, item.fault))
        return None
    try:
        return analyzer.analyze(item.source, name=item.name)
    except DermfuseError as error:
        say_error(_named(item.name, str(error)))
    except Exception as error:
        say_error(f"{item.name}: {describe_fault(error)}")
    return None


def _named(name: str, error: str) -> str:
    """Returns an error that says which image it is about; most do by themselves."""
    return error if error.startswith(name) else f"{name}: {error}"


def _show(analysis: "Analysis", *, missed: "Estimate | None") -> None:
    from dermfuse.report import LESION_SHARE, MISSED, PROBABILITY, say_probability, say_share

    point = analysis.operating_point
    say(one_line(analysis.name) or "image")
    for warning in analysis.warnings:
        say(f"  ! {warning}")
    said = say_probability(analysis.malignant_probability)
    if analysis.predicted is None:
        say(f"  {PROBABILITY} {said}")
        return
    called = analysis.predicted.name.lower()
    say(f"  {PROBABILITY} {said}: {called} at {point.name}, threshold {point.threshold:.3f}")
    if analysis.variation:
        say(f"  {analysis.variation[0].lower()}{analysis.variation[1:]}")
    say(
        f"  there, sensitivity {point.sensitivity.value:.2f} and specificity "
        f"{point.specificity.value:.2f} on images that the networks were not trained on"
        + (f"; sensitivity {missed.value:.2f}, {MISSED}" if missed else "")
    )
    say(f"  {LESION_SHARE} {say_share(analysis.lesion_area_fraction)}")
    found = {name: getattr(analysis.measures, key, None) for name, key in _MEASURES.items()}
    if known := [f"{name} {value:.3g}" for name, value in found.items() if value is not None]:
        say(f"  {', '.join(known)}")


def _show_withheld(names: Sequence[str], count: int) -> None:
    """Names the images that nothing is said about: they need eyes first."""
    from dermfuse.report import UNLIKE

    if count:
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        shown = ", ".join(map(one_line, names[:_NAMED]))
        say(f"Withheld, look at these first ({UNLIKE}): {shown}{more}")


def _show_outcome(outcome: "FolderOutcome") -> None:
    _show_withheld(outcome.withheld_names, outcome.withheld)
    say(
        f"{outcome.analysed} analysed, {outcome.reused} done before, {outcome.failed} failed; "
        f"{outcome.withheld} withheld, {outcome.malignant} called malignant, "
        f"{outcome.benign} benign"
    )
    for name, error in outcome.errors:
        say_error(_named(name, error))
    say(f"Results: {outcome.folder}")
    if outcome.pages:
        say(f"Open in a browser: {outcome.folder / 'report.html'}")


def stress(
    paths: Annotated[
        list[str], Argument(metavar="PATH...", help="Dermoscopy images or folders of them.")
    ],
    *,
    out: Out,
    release: ReleaseFolder = None,
    looks: Looks = None,
    images: Annotated[int, Option(min=1, help="The first so many alone.")] = 100,
    seed: Annotated[int, Option(help="Of what is drawn over the images.")] = 0,
    json: Json = False,
) -> None:
    """Measure how far hair, blur, light, JPEG, orientation and others move an analysis."""
    from itertools import islice

    from dermfuse.analysis.analyzer import Analyzer
    from dermfuse.analysis.inputs import expand
    from dermfuse.imaging.symmetries import describe_looks
    from dermfuse.publishing.stress import COLUMNS, say_orientations, table_row, write_stress
    from dermfuse.publishing.stress import stress as measure_stress
    from dermfuse.records.folders import require_free

    require_free(out, what="stress report")
    analyzer = Analyzer(release, looks=looks, score_all=True)
    _warn_of_looks(analyzer)
    items, lost = list(islice(expand(paths, skip=out), images)), list[str]()
    with progress("Disturbing images") as advance:
        report = measure_stress(
            analyzer,
            _readable(items, lost),
            seed=seed,
            progress=lambda done: advance(done, len(items)),
        )
    page = write_stress(report, out)

    def show() -> None:
        say_table(COLUMNS, [table_row(row) for row in report.rows])
        say(f"{say_orientations(report)} Each network looks at {describe_looks(report.looks)}.")
        say(f"Open in a browser: {page}")

    finish(report.to_dict(), show, json=json)
    if lost:
        raise typer.Exit(SOME_FAILED)


def _readable(items: "Sequence[Item]", lost: list[str]) -> "Iterator[NDArray[np.uint8]]":
    """Yields the pixels of what can be read; the rest is reported, unless nothing is left."""
    from dermfuse.errors import DermfuseError, ImageError
    from dermfuse.imaging.reading import read_any

    for item in items:
        try:
            if item.fault:
                raise ImageError(item.fault)
            yield read_any(item.source, name=item.name)
        except DermfuseError as error:
            lost.append(item.name)
            if len(lost) == len(items):
                raise
            say_error(_named(item.name, str(error)))
