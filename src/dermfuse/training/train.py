"""One training, from a configuration to a run folder."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from dermfuse.config import Config, ModelConfig, load_config
from dermfuse.data.folders import DataFolders, list_folders, name_folders
from dermfuse.data.isic2016 import TEST_DUPLICATES
from dermfuse.data.splits import read_split, write_split
from dermfuse.errors import ConfigError, RunError, TrainingError
from dermfuse.models import build_network
from dermfuse.models.backbones import Backbone
from dermfuse.models.weights import load_imagenet
from dermfuse.predictions.folder import name_some
from dermfuse.records.folders import (
    NOTICE,
    RunFolder,
    environment,
    new_folder,
    require_free,
    sweep_unfinished,
    write_json,
    write_text,
)
from dermfuse.training.distributed import (
    Processes,
    batch_length,
    explain_memory,
    find_processes,
    require_devices,
    require_shares,
)
from dermfuse.training.graphs import require_graph
from dermfuse.training.modules import (
    ClassifierModule,
    JointModule,
    PairModule,
    SegmentationModule,
    TrainingModule,
)
from dermfuse.training.recorder import AtomicCheckpointIO, Recorder, load_weights, refuse_state
from dermfuse.training.samples import (
    Samples,
    TrainingSet,
    load_samples,
    require_classes,
    require_classes_of_rows,
    select_lesions,
)
from dermfuse.training.teachers import ask_teachers
from dermfuse.training.updates import require_compiler

_LOG = logging.getLogger(__name__)
_KEPT = ("preset", "config", "seed", "init", "start", "epochs", "validation")

_ADVICE = (
    ".*does not have many workers.*",  # batches are row numbers, not images
    ".*Checkpoint directory .* exists and is not empty.*",  # it is the run folder
    ".*LeafSpec.*",  # Lightning's own use of a deprecated class
    ".*training_step` returned `None`.*",  # a captured step has its own backward pass
    ".*capturable=True.*",  # the first steps before a capture
)

MODULES: dict[str, type[TrainingModule]] = {
    "classifier": ClassifierModule,
    "discriminant": PairModule,
    "unet": SegmentationModule,
    "unet_original": SegmentationModule,
    "joint": JointModule,
}
"""By ``model.network``."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training came to.

    Attributes:
        run: The run folder.
        epochs: Epochs that were trained, those before a resume included.
        best: Metrics of the epoch that is kept: the one that validated best or, where nothing
            is validated on, the last, with its training loss alone.
        left_out: Sentences about images that could not be used.
    """

    run: Path
    epochs: int
    best: dict[str, float]
    left_out: tuple[str, ...]


def train(  # noqa: PLR0913 — one keyword for each option of the command
    config: Config,
    *,
    data: DataFolders,
    run: str | Path,
    imagenet: str | Path | None = None,
    start: str | Path | None = None,
    leave_out: str | Path | None = None,
    resume: bool = False,
    devices: int = 1,
    progress: Callable[[int, int], None] | None = None,
    show_bar: bool = False,
) -> TrainingReport:
    """Trains one network and returns how well it validated.

    Args:
        config: What to train, and how.
        data: A dataset folder in the official ISIC 2016 layout, or several that are joined.
        run: The run folder; new or empty unless ``resume``.
        imagenet: Folder with ImageNet weights; None downloads the public files.
        start: A run of the same network whose best weights this one starts from, in place of
            ``model.init``: trained at a smaller input first, say, or on other images.
            A resumed run has its weights already and does not read it again.
        leave_out: A list, a CSV of ``image_id,part``, of the images, masks and labels that may
            not be used.
        resume: Continues after the last whole epoch of ``run``; the metrics are those of a run
            that was never interrupted. A run folder without a finished epoch starts anew.
        devices: Trains on so many GPUs, or CPU processes, of this host; each takes a share of
            every batch (see ``dermfuse.training.distributed``). The script that calls this is
            started once for each; under ``torchrun`` leave it at 1.
        progress: Called with (done, all) while images are decoded.
        show_bar: Draws a progress bar on standard error.

    Raises:
        DermfuseError: For whatever a user can correct; see ``dermfuse.errors``.
    """
    folder = RunFolder(Path(run))
    accelerator, processes = accelerator_of(config), find_processes(devices)
    require_devices(processes, accelerator)
    require_compiler(config.train, accelerator)
    require_graph(config.train, accelerator, processes)
    if processes.first and not resume:
        require_free(folder.path, what="run")
    chosen = select_lesions(data, config, leave_out=Path(leave_out) if leave_out else None)
    require_classes(chosen, config)
    for sentence in chosen.left_out if processes.first else ():
        _LOG.warning("%s", sentence)
    resumes = resume and (
        _can_resume(folder, config, chosen) if processes.first else folder.state.exists()
    )
    record = {**_record(config, chosen, data), "devices": processes.count}
    if resumes or not start:
        record |= _read_origin(folder, resumes=resumes)
    weights = Path(imagenet) if imagenet else None
    network = _initial_network(config, weights, pretrained=not (resumes or start))
    if start and not resumes:
        held_out = chosen.held_out
        record |= load_start(network, Path(start), model=config.model, validation=held_out)
    lessons = ask_teachers(config, data, chosen.split.train)
    samples = load_samples(chosen, config, lessons=lessons, progress=progress)
    require_classes_of_rows(samples, config)
    module = _module(network, samples, config, processes)
    if processes.first and not resumes:
        if not resume:
            new_folder(folder.path, what="run")
        write_text(folder.config, config.to_toml())
        write_split(folder.split, chosen.split)
        write_json(folder.record, {**record, "status": "running", "epochs": 0})
    recorder = Recorder(folder, record, config)
    with quiet(), explain_memory(config):
        trainer = _trainer(config, recorder, processes, show_bar=show_bar)
        _fit(trainer, module, recorder, resumes=resumes)
    if not recorder.history:
        raise TrainingError("the training was stopped before the end of its first epoch")
    if processes.first:
        recorder.write_record("finished")
    return TrainingReport(folder.path, len(recorder.history), recorder.kept, chosen.left_out)


def precision_of(config: Config) -> str:
    """Returns Lightning's name of the precision a configuration asks for on this machine."""
    wanted = config.train.precision
    if wanted == "auto":
        wanted = "bfloat16" if _multiplies_bfloat16(accelerator_of(config)) else "float32"
    return "bf16-mixed" if wanted == "bfloat16" else "32-true"


def accelerator_of(config: Config) -> str:
    """Returns ``cpu`` or ``cuda``.

    Raises:
        ConfigError: If CUDA is asked for and is not there.
    """
    wanted = config.train.device
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            'train.device is "cuda" and PyTorch finds no CUDA device',
            expected="a CUDA device",
            action="Set train.device=auto",
        )
    return wanted


def load_start(
    network: nn.Module, start: Path, *, model: ModelConfig, validation: Sequence[str]
) -> dict[str, Any]:
    """Loads the best weights of a run into ``network``; returns its record for this one's.

    Args:
        network: Changed in place.
        start: A run folder.
        model: What ``network`` was built from; where its weights come from may differ.
        validation: Images of the lesions that are to be validated on; the other run must not have
            seen them. Without any, every run of the same network will do.

    Raises:
        RunError: ``start`` is no run, is of another network, or trained on ``validation``.
    """
    folder = RunFolder(start)
    folder.require_run(expected="a run to start from, with config.toml and best.safetensors")
    theirs = load_config(folder.config).model
    if (theirs.network, theirs.backbone) != (model.network, model.backbone):
        raise RunError(
            f"{start} trained {_named(theirs)}",
            expected=f"a run of {_named(model)}",
            action="Start from another run, or train the same network",
        )
    if seen := sorted(set(read_split(folder.split).train) & set(validation)):
        raise RunError(
            f"{start} trained on {name_some(seen)}, which would be validated on",
            expected="a run that has not seen the validation images",
            action="Set its train.seed and data settings",
        )
    metadata = load_weights(folder.weights, network)
    record = folder.read_record()
    return {
        "init": f"run {start.resolve().name}",
        "start": {
            **{key: record[key] for key in _KEPT if key in record},
            "epoch": int(metadata.get("epoch", 0)),
        },
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Lightning's advice that does not apply here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _ADVICE:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _multiplies_bfloat16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _read_origin(folder: RunFolder, *, resumes: bool) -> dict[str, Any]:
    """Returns the entries of a run's record about the run that its weights came from.

    Raises:
        RunError: It began from another run's weights and would begin anew, from other ones.
    """
    record = folder.read_record() if folder.record.is_file() else {}
    if "start" in record and not resumes:
        raise RunError(
            f"{folder.path} began from {record['init']} and has no finished epoch",
            expected="that run, to begin from it again",
            action="Give it with --from",
        )
    return {key: record[key] for key in ("init", "start") if key in record} if resumes else {}


def _named(model: ModelConfig) -> str:
    return " on ".join(part for part in (model.network, model.backbone) if part)


def _can_resume(folder: RunFolder, config: Config, chosen: TrainingSet) -> bool:
    """Returns whether there is an epoch to continue after; refuses another run's folder."""
    sweep_unfinished(folder.path)  # of a run that was killed while it wrote
    if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
        return False
    folder.require_run(
        expected="the folder of an interrupted run, with config.toml",
        action="Choose the run's folder, or leave --resume out and choose a new one",
    )
    before, now = (_comparable(mapping) for mapping in (load_config(folder.config), config))
    if changed := [
        f"{key} {old!r} -> {now[key]!r}" for key, old in before.items() if now[key] != old
    ]:
        raise RunError(
            f"{folder.path} was trained with another configuration ({', '.join(changed)})",
            expected="the same one; only train.epochs may grow, under the plateau rule",
            action="Resume with the run's own settings or choose a new folder",
        )
    if folder.record.exists():
        fingerprint = folder.read_record().get("data", {}).get("fingerprint")
        if fingerprint not in (None, chosen.fingerprint):
            raise RunError(
                f"{folder.path} was trained on other images",
                expected="the data set the run began with",
                action="Give the same --data and --leave-out, or choose a new folder",
            )
    if folder.state.exists():
        write_text(folder.config, config.to_toml())
    return folder.state.exists()


def _comparable(config: Config) -> dict[str, Any]:
    """Returns the settings that a run and its continuation share, ``table.key`` -> value."""
    free = {"train.threads", "train.device", "train.compile", "train.graph"}
    if config.train.schedule == "plateau":
        free.add("train.epochs")  # the cosine's length is its epochs
    tables = (kv for kv in config.to_mapping().items() if isinstance(kv[1], dict))
    flat = {f"{table}.{key}": value for table, values in tables for key, value in values.items()}
    return {key: value for key, value in flat.items() if key not in free}


def _record(config: Config, chosen: TrainingSet, data: DataFolders) -> dict[str, Any]:
    labels = [lesion.label for lesion in chosen.lesions]
    return {
        "preset": config.name,
        "task": config.model.task,
        "config": config.to_mapping(),
        "seed": config.train.seed,
        "init": config.model.init,
        **environment(),
        "device": torch.cuda.get_device_name() if accelerator_of(config) == "cuda" else "CPU",
        "precision": precision_of(config),
        "threads": config.train.threads or torch.get_num_threads(),
        "data": {
            "folders": [folder.resolve().name for folder in list_folders(data)],
            "summary": _summary(config, chosen, data),
            "fingerprint": chosen.fingerprint,
            "train_images": len(chosen.split.train),
            "validation_images": len(chosen.split.validation),
            "malignant_images": sum(label == 1 for label in labels),
            "left_out": list(chosen.left_out),
            **({"leave_out": chosen.leave_out.to_dict()} if chosen.leave_out else {}),
        },
        "notice": NOTICE,
    }


def _summary(config: Config, chosen: TrainingSet, data: DataFolders) -> str:
    """Returns the data in words, for tables."""
    train = chosen.split.train
    shown = len(set(train).intersection(TEST_DUPLICATES))
    known = f" ({shown} show a lesion of the test set)" if shown else ""
    if not config.data.validates:
        return f"{name_folders(data)}, all {len(train)} usable images trained on{known}"
    sides = f"{len(train)} images trained on{known}, {len(chosen.split.validation)} validated on"
    own = config.data
    how = f"fold {own.fold} of {own.folds}" if own.folds else "hold-out"
    if own.outer_folds:
        how += f" without fold {own.outer_fold} of {own.outer_folds}"
    return f"{name_folders(data)}, {sides}, {how} by {config.data.split}"


def _initial_network(config: Config, imagenet: Path | None, *, pretrained: bool) -> torch.nn.Module:
    seed_everything(config.train.seed, verbose=False)
    network = build_network(config.model)
    backbone = getattr(network, "backbone", None)
    if config.model.init == "imagenet" and pretrained and isinstance(backbone, Backbone):
        load_imagenet(backbone, folder=imagenet)
    return network


def _module(
    network: torch.nn.Module, samples: Samples, config: Config, processes: Processes
) -> TrainingModule:
    if processes.count > 1 and accelerator_of(config) == "cuda":
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    module = MODULES[config.model.network](network, samples, config)
    if processes.count > 1:
        smallest = min(map(batch_length, module.schedule(0)))
        require_shares(smallest, len(samples.validation_rows), processes)
    return module.to(memory_format=torch.channels_last)


def _trainer(
    config: Config, recorder: Recorder, processes: Processes, *, show_bar: bool
) -> Trainer:
    folder = recorder.folder
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    checkpoint = ModelCheckpoint(
        dirpath=folder.path,
        filename=folder.state.stem,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [recorder, checkpoint]
    if show_bar:
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    return Trainer(
        accelerator=accelerator_of(config),
        devices=processes.per_host,
        num_nodes=processes.hosts,
        strategy="ddp" if processes.count > 1 else "auto",
        precision=precision_of(config),  # type: ignore[arg-type]
        max_epochs=config.train.epochs,
        gradient_clip_val=config.train.gradient_clip or None,
        limit_val_batches=1.0 if config.data.validates else 0,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=TensorBoardLogger(folder.path, name="", version=folder.tensorboard.name),
        num_sanity_val_steps=0,
        log_every_n_steps=0,  # an epoch is logged by the recorder
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=show_bar,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _fit(trainer: Trainer, module: TrainingModule, recorder: Recorder, *, resumes: bool) -> None:
    """Trains to the end, or until it is stopped.

    Raises:
        RunError: The state of the run that is resumed cannot be read.
        KeyboardInterrupt: It was stopped.
    """
    state = recorder.folder.state
    try:
        trainer.fit(module, ckpt_path=state if resumes else None, weights_only=True)
    except SystemExit as stopped:  # how Lightning ends on Ctrl-C and on a termination signal
        if trainer.is_global_zero and recorder.history:
            recorder.write_record("interrupted")
        raise KeyboardInterrupt from stopped
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
        if not resumes or recorder.began:
            raise
        raise refuse_state(state) from error
