"""``dermfuse presets, train, predict``: the commands around networks.

All but ``presets`` need the extra ``train``; it is imported inside the commands.
"""

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from dermfuse.cli.console import (
    finish,
    on_terminal,
    progress,
    require_extra,
    say,
    say_json,
    say_notice,
    say_table,
)
from dermfuse.cli.options import (
    Assignments,
    Data,
    Imagenet,
    Json,
    LeaveOut,
    Out,
    Parts,
    Preset,
    Tta,
    folder,
    split_names,
)
from dermfuse.config import find_config, load_preset, preset_names
from dermfuse.errors import ConfigError
from dermfuse.records.folders import NOTICE


class Split(StrEnum):
    """The images that can be predicted."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def presets(
    name: Annotated[str | None, Argument(help="Print this preset as TOML.")] = None,
    *,
    json: Json = False,
) -> None:
    """List the presets, or print one as TOML.

    There is one for each row of the paper's tables of networks, and variants of them.
    """
    if name is not None:
        config = load_preset(name)
        say_json(config.to_mapping()) if json else say(config.to_toml() + f"\n# {NOTICE}")
        return
    summaries = {known: load_preset(known).summary for known in preset_names()}
    width = max(map(len, summaries))
    lines = [f"{known:<{width}}  {summary}" for known, summary in summaries.items()]
    finish({"presets": summaries}, lambda: say("\n".join(lines)), json=json)


def train(
    preset: Preset,
    *,
    data: Data,
    run: Annotated[Path, folder("The run folder to write.")],
    imagenet: Imagenet = None,
    start: Annotated[
        Path | None, Option("--from", metavar="RUN", help="Start from this run's best weights.")
    ] = None,
    leave_out: LeaveOut = None,
    assignments: Assignments = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run.")] = False,
    devices: Annotated[int, Option(help="GPUs (or CPU processes) to train on.")] = 1,
    predictions: Annotated[
        Path | None, folder("Then predict into DIR/PART of --parts.", "--predict")
    ] = None,
    parts: Parts = None,
) -> None:
    """Train a preset into a run folder.

    A run that was interrupted continues after its last whole epoch with --resume.
    """
    config = find_config(preset).override(assignments or ())
    if (predictions is None) != (parts is None):
        raise ConfigError(
            f"{'--parts' if predictions is None else '--predict'} is given alone",
            expected="a folder and what to predict into it, or neither",
            action="Give --predict DIR and --parts PART,...",
        )
    require_extra("train", "dermfuse train")
    named = _parts(parts)
    from dermfuse.training.distributed import find_processes
    from dermfuse.training.jobs import follow_queue
    from dermfuse.training.train import train as train_network

    follow_queue()
    first = find_processes(devices).first  # of several processes one speaks for all
    with progress("Reading images") if first else nullcontext() as advance:
        report = train_network(
            config,
            data=data,
            run=run,
            imagenet=imagenet,
            start=start,
            leave_out=leave_out,
            resume=resume,
            devices=devices,
            progress=advance,
            show_bar=first and on_terminal(),
        )
    if not first:
        return
    rows = [(key, f"{value:g}") for key, value in report.best.items() if key != "rank"]
    header = ("best epoch", "validation") if config.data.validates else ("last epoch", "training")
    say_table(header, rows)
    for sentence in report.left_out:
        say(sentence)
    say(f"{report.epochs} epochs; the run lies in {report.run}.")
    if predictions is not None:
        _predict_parts(run, named, data=data, out=predictions)
    say_notice()


def predict(
    run: Annotated[Path, Argument(metavar="RUN", help="A run folder.")],
    *,
    data: Data,
    out: Out,
    split: Annotated[Split | None, Option(help="Which images.")] = None,
    parts: Parts = None,
    probabilities: Annotated[
        bool, Option("--probabilities", help="Also write 8-bit probability maps.")
    ] = False,
    tta: Tta = False,
) -> None:
    """Predict a split with a trained network.

    A classifier writes scores.csv, a U-Net masks of the images' size, a joint network both.
    With --parts several folders are written, DIR/PART, with the maps that fusion needs; those
    that are there and younger than the run are kept.
    """
    if (split is None) == (parts is None) or (parts is not None and (tta or probabilities)):
        raise ConfigError(
            "of --split and --parts neither or both are given, or --parts with other options",
            expected="--split PART for one folder, or --parts PART,... for several",
            action="Give one of them",
        )
    require_extra("train", "dermfuse predict")
    if split is None:
        _predict_parts(run, _parts(parts), data=data, out=out)
        say_notice()
        return
    from dermfuse.training.prediction import predict as predict_split

    with progress("Predicting") as advance:
        report = predict_split(
            run,
            data=data,
            split=split.value,
            out=out,
            probabilities=probabilities,
            tta=tta,
            progress=advance,
        )
    say(f"{report.images} predictions ({report.task}) lie in {report.out}.")
    say_notice()


def _parts(text: str | None) -> list[str]:
    from dermfuse.training.prediction import require_parts

    parts = split_names(text)
    require_parts(parts)
    return parts


def _predict_parts(run: Path, parts: list[str], *, data: list[Path], out: Path) -> None:
    from dermfuse.training.prediction import predict_part

    for part in parts:
        folder = predict_part(run, part, data=data, out=out)
        say(f"The {part} predictions lie in {folder}.")
