"""``dermfuse release``, ``export`` and ``card``: what ships, made, written and described.

``release`` makes a release of a plan and data in one command, ``export`` of trained networks;
``card`` writes its model card. The exit status of ``release`` is 3 where a training failed, or the
deadline left some.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from dermfuse.cli.console import (
    SOME_FAILED,
    announce_stage,
    finish,
    progress,
    require_extra,
    say,
    say_table,
)
from dermfuse.cli.options import (
    Data,
    Deadline,
    DryRun,
    Imagenet,
    Jobs,
    Json,
    LeaveOut,
    Pages,
    ReleaseFolder,
    ReportOn,
    ResumedOut,
    folder,
)
from dermfuse.cli.reproduce import say_left, show_queue, watch_trainings
from dermfuse.errors import ConfigError
from dermfuse.records import Estimate
from dermfuse.release.folder import ClassRelease, MaskRelease, Release
from dermfuse.report import MISSED, UNLIKE

if TYPE_CHECKING:
    from dermfuse.publishing.export import ExportReport
    from dermfuse.publishing.release import MakeReport

_BLOCK = "release"


class Precision(StrEnum):
    """How the networks of a release store and compute."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT8_WEIGHTS = "int8-weights"


class Weights(StrEnum):
    """How the class networks of a release are weighed."""

    FITTED = "fitted"
    EQUAL = "equal"


def release(
    plan: Annotated[
        str, Argument(metavar="PLAN", help="shipped, h200, or a TOML file of your own.")
    ],
    *,
    data: Data,
    out: ResumedOut,
    imagenet: Imagenet = None,
    leave_out: LeaveOut = None,
    report_on: ReportOn = None,
    jobs: Jobs = None,
    deadline: Deadline = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train a plan's networks and make a release of them, with its card.

    Folds and the networks that ship are trained side by side, teachers first; what is finished in
    OUT/runs is reused and what was interrupted is continued. Then they are exported, fused,
    calibrated and measured out of fold.
    """
    require_extra("export", "dermfuse release")
    from dermfuse.publishing.plan import read_plan
    from dermfuse.publishing.release import MakeRequest, make_release, prepare_release
    from dermfuse.training.jobs import parse_jobs

    request = MakeRequest(
        plan=plan,
        data=data,
        out=out,
        imagenet=imagenet,
        leave_out=leave_out,
        report_on=report_on or (),
        jobs=parse_jobs(jobs),
        minutes=deadline,
    )
    read_plan(plan)  # what is no plan is refused before anything is timed
    with progress("Timing steps of each network") as advance:
        prepared = prepare_release(request, progress=advance)
    if dry_run:
        head = f"{prepared.plan.name}: "
        finish(prepared.to_dict(), lambda: show_queue(prepared.queue, head=head), json=json)
        return
    with watch_trainings(prepared.queue.jobs) as watch:
        report = make_release(request, prepared=prepared, watch=watch, stage=announce_stage)
    finish(report.to_dict(), lambda: _show_report(report, out), json=json)
    if report.failed or report.left:
        raise typer.Exit(SOME_FAILED)


def export(
    runs: Annotated[list[Path] | None, Argument(metavar="RUN...", help="Run folders.")] = None,
    *,
    data: Annotated[list[Path] | None, folder("What they learnt from; repeatable.")] = None,
    out: Annotated[Path, folder("The folder to write into.")],
    int8: Annotated[bool, Option("--int8", help="Also write the 8-bit forms.")] = False,
    calibration: Annotated[
        int, Option(min=1, help="Training images that int8 is calibrated on.")
    ] = 64,
    folds: Annotated[
        list[Path] | None,
        Option(
            metavar="RUN",
            help="A run of the same preset trained in folds; makes a whole release. Repeated.",
        ),
    ] = None,
    name: Annotated[str, Option(help="Of the release.")] = "dermfuse",
    precision: Annotated[
        Precision, Option(help="Of the networks of a release.")
    ] = Precision.INT8_WEIGHTS,
    looks: Annotated[
        int, Option(metavar="1|4|8", help="Orientations at which a release looks.")
    ] = 8,
    weights: Annotated[
        Weights, Option(help="Of class networks: fitted out of fold, or all equal.")
    ] = Weights.FITTED,
    report_on: ReportOn = None,
    vectors: Annotated[
        bool, Option("--vectors", help="Write test vectors of a release instead.")
    ] = False,
    release: Annotated[Path | None, folder("With --vectors: else the package's.")] = None,
    json: Json = False,
) -> None:
    """Export trained networks to ONNX.

    Each becomes NAME.onnx and its card NAME.json; answers are compared with torch's. With --folds
    they become a release that dermfuse analyze takes: fused, calibrated, with operating points,
    measured by the networks that were trained in folds. With --vectors no network is exported:
    input pixels and what every stage of an analysis makes of them are written as JSON.
    """
    if vectors:
        _write_vectors(out, release, runs=runs, json=json)
        return
    if not runs or not data or release:
        raise ConfigError(
            f"dermfuse export {'with --release' if release else 'without RUN or --data'}",
            expected="RUN... --data DIR --out DIR, or --vectors --out DIR [--release DIR]",
        )
    require_extra("export", "dermfuse export")
    if folds:
        from dermfuse.imaging.symmetries import check_looks
        from dermfuse.publishing.release import ReleaseRequest, build_release

        request = ReleaseRequest(
            runs=runs,
            folds=folds,
            data=data,
            out=out,
            name=name,
            precision=precision.value,
            looks=check_looks(looks),
            weights=weights.value,
            report_on=report_on or (),
        )
        made = build_release(request, stage=announce_stage)
        finish(made.to_dict(), lambda: _show_release(made, out), json=json)
        return
    from dermfuse.publishing.export import export_runs

    with progress("Exporting") as advance:
        report = export_runs(
            runs, data=data, out=out, int8=int8, calibration=calibration, progress=advance
        )
    finish(report.to_dict(), lambda: _show_export(report, out), json=json)


def card(
    *,
    release: ReleaseFolder = None,
    data: Annotated[
        list[Path] | None,
        Option(
            metavar="DIR",
            help="A dataset folder it was trained on, to count images and skin tones, repeatable; "
            "or the JSON of an earlier card.",
        ),
    ] = None,
    stress: Annotated[
        Path | None, Option(metavar="FILE", help="The stress.json of: dermfuse stress.")
    ] = None,
    bench: Annotated[
        Path | None, Option(metavar="FILE", help="The JSON of: python -m benchmarks analyze.")
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="A .md file; its content as .json beside it.")
    ] = None,
    summary: Pages = None,
    json: Json = False,
) -> None:
    """Write the model card of a release: every number from a file, the rest "not measured".

    Without --out it is printed.
    """
    from dermfuse.publishing.card import (
        CardSources,
        gather_card,
        render_card,
        render_summary,
        write_card_page,
    )
    from dermfuse.report.page import replace_block

    if out and out.suffix.lower() != ".md":
        raise ConfigError(f"--out is {out}", expected="the name of a .md file")
    sources = CardSources(release=release, data=data or None, stress=stress, bench=bench)
    with progress("Reading") as advance:
        content = gather_card(sources, progress=advance)
    beside = write_card_page(content, out) if out else None
    for page in summary or ():
        replace_block(page, _BLOCK, render_summary(content))
    if not (json or beside or summary):
        say(render_card(content).rstrip())
        return
    where = f"The table stands in {', '.join(map(str, summary or ()))}."
    if beside:
        where = f"The card lies in {out}, what it was made from in {beside}."
    finish(content.to_dict(), lambda: say(where), json=json)


def _show_report(report: "MakeReport", out: Path) -> None:
    for run in report.failed:
        say(f"{run.name} failed: {run.error}")
    say_left(report.left)
    if report.release is None:
        if not report.left:
            say("Without them there is no release; the same command tries again.")
        return
    for kind, path in report.written.items():
        say(f"{kind}: {path}")
    _show_release(report.release, out / "release")


def _show_export(report: "ExportReport", out: Path) -> None:
    rows = []
    for network in report.networks:
        card = network.card
        measured = {} if card.measured is None else card.measured.metrics[card.precision]
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
        size, speed = f"{card.bytes / 1e6:.2f}", f"{network.speed:.2f}"
        rows.append(
            (card.name, card.precision, size, f"{network.milliseconds:.1f}", speed, metrics)
        )
    columns = ("network", "precision", "MB", "ms", "speed", "validation")
    say_table(columns, rows)
    say("ms: one image, one thread, this machine; speed: beside float32.")
    say(f"{len(rows)} networks with their cards lie in {out}.")


def _write_vectors(out: Path, release: Path | None, *, runs: list[Path] | None, json: bool) -> None:
    if runs:
        raise ConfigError(f"RUN {runs[0]} with --vectors", expected="one of them")
    from dermfuse.web.vectors import write_vectors

    path, images = write_vectors(out, release=release)
    sentence = f"{images} images and what each stage makes of them lie in {path}."
    finish({"path": str(path), "images": images}, lambda: say(sentence), json=json)


def _show_release(release: Release, folder: Path) -> None:
    """Prints thresholds, weights and what was measured out of fold."""
    _show_points(release.classes)
    for part in (release.classes, release.masks):
        _show_part(part)
    for kind, of in (release.gate.measured if release.gate else {}).items():
        say(f"{kind}: {100 * of['flagged']:.1f} % of {of['images']} {UNLIKE}")
    say(f"The release lies in {folder}. Try it: dermfuse analyze IMAGE --release {folder}")


def _show_points(classes: ClassRelease) -> None:
    for point in classes.operating_points:
        found = point.sensitivity
        missed = classes.sensitivity_with_missed(point)
        say(
            f"{point.name}: from {point.threshold:.3f} on, sensitivity {found.value:.3f} "
            f"({found.interval('.3f')}{f'; {missed.value:.3f}, {MISSED}' if missed else ''}), "
            f"specificity {point.specificity:.3f}"
        )
    if withheld := classes.measured.get("withheld"):
        malignant, benign = withheld["malignant"], withheld["benign"]
        say(
            f"withheld: {_share(malignant)} malignant and {_share(benign)} benign images "
            f"(p {withheld['p_value']:.2f})"
        )


def _show_part(part: ClassRelease | MaskRelease) -> None:
    shares = ", ".join(f"{each.name} {each.weight:.2f}" for each in part.members)
    measured = part.measured
    say(f"{shares}: {_numbers(measured)} on {measured['images']} images, out of fold")
    for name, of in measured["subsets"].items():
        say(f"  {name}: {_numbers(of)} on {of['images']} images")
    if single := measured.get("one_look"):
        gains = ", ".join(
            f"{metric} {Estimate(**of):+.4f}" for metric, of in single["gain"].items()
        )
        say(f"  {measured['looks']} looks beside one: {gains}")


def _numbers(measured: Mapping[str, Any]) -> str:
    numbers = [f"{metric} {Estimate(**of):.3f}" for metric, of in measured["fusion"].items()]
    if "calibration_error" in measured:
        numbers.append(f"calibration error {measured['calibration_error']:.3f}")
    return ", ".join(numbers)


def _share(of: Mapping[str, int]) -> str:
    return f"{of['withheld']} of {of['images']}"
