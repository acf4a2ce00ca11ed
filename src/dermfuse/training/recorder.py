"""What a run leaves on disk after every epoch, so that a kill loses at most one."""

import io
import json
import logging
import time
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from dermfuse.config import Config
from dermfuse.errors import RunError, WeightsError
from dermfuse.models.weights import load_strictly
from dermfuse.records.folders import RunFolder, atomic_write, write_json
from dermfuse.training.modules import PairModule, TrainingModule, deployed_head

_LOG = logging.getLogger(__name__)
_STATE = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "state_dict")
_LENGTH_BYTES = 8  # of a safetensors header's length
_SHOWN = ("train_loss", "validation_loss", "average_precision", "auc", "jaccard", "dice")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's training state whole or not at all, and reads it without unpickling code.

    The state holds optimiser, the epochs' table and counters beside the weights; it serves
    ``--resume`` alone. What is deployed is ``best.safetensors``.
    """

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:  # noqa: ANN401
        """Writes ``checkpoint`` to ``path`` atomically."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic_write(Path(path)) as handle:
            handle.write(buffer.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = None) -> Any:  # noqa: ANN401
        """Returns the state in ``path``: tensors and plain values, never code.

        Raises:
            RunError: If the file is damaged.
        """
        try:
            return _read_state(Path(path), map_location or "cpu")
        except Exception as error:
            raise refuse_state(path) from error


class Recorder(Callback):
    """Writes metrics, best weights and the run's record at the end of every epoch.

    Where several processes train together each keeps the table and the first one writes.
    Its state travels inside Lightning's, so a resumed run continues the same table.

    Args:
        folder: The run folder.
        record: What ``run.json`` says from the start.
        config: Configuration of the run.

    Attributes:
        began: Whether an epoch has begun here: until then the state of a run is read.
    """

    def __init__(self, folder: RunFolder, record: dict[str, Any], config: Config) -> None:
        self.folder = folder
        self.record = record
        self.config = config
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.began = False
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs."""
        return {"history": self.history, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues the table of the run that was interrupted."""
        history = [dict(row) for row in state_dict["history"]]
        if odd := [row for row in history if not all(map(_is_number, row.values()))]:
            raise ValueError(f"the table of epochs holds {odd[0]}")
        self.history = history
        self.seconds = float(state_dict["seconds"])

    @property
    def kept(self) -> dict[str, float]:
        """The row of the epoch whose weights are kept.

        It is the one that validated best, the earliest of equals; where nothing is validated on
        or ``train.keep`` says so, the last.
        """
        if not self.config.data.validates or self.config.train.keep == "last":
            return self.history[-1]
        return max(self.history, key=lambda row: row["rank"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends a run that is resumed after the epoch by which it was over early."""
        if self.history and self._is_over_early():
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of an epoch, and sets its rate by the epochs that are written down."""
        self.began = True
        self._started = time.monotonic()
        if isinstance(pl_module, TrainingModule):
            pl_module.follow_plateaus(self.history)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the epoch down; Lightning's own state is saved right after."""
        if not isinstance(pl_module, TrainingModule):
            raise TypeError(f"a TrainingModule is recorded, not a {type(pl_module).__name__}")
        row = pl_module.epoch_row()
        self.seconds += time.monotonic() - self._started
        self.history.append(row)
        if trainer.is_global_zero:
            self._write(trainer, pl_module, row)
        if self._is_over_early():
            trainer.should_stop = True

    def write_record(self, status: str) -> None:
        """Writes ``run.json``."""
        kept, validates = self.kept, self.config.data.validates
        is_pair = self.config.model.network == "discriminant"
        progress = {
            "status": status,
            "epochs": len(self.history),
            "seconds": round(self.seconds, 1),
            "kept_epoch": int(kept["epoch"]),
            "kept_by": self._kept_by(),
            "validation": {k: v for k, v in kept.items() if k != "rank"} if validates else {},
            **({"deployed_head": deployed_head(kept)} if is_pair else {}),
        }
        write_json(self.folder.record, {**self.record, **progress})

    def _write(self, trainer: Trainer, module: TrainingModule, row: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(row, step=int(row["epoch"]))
        if self.kept is row:
            metadata = {"epoch": str(int(row["epoch"])), "config": self.config.to_toml()}
            if isinstance(module, PairModule):
                metadata["head"] = deployed_head(row)
            write_weights(self.folder.weights, module.validated, metadata)
        self.folder.write_metrics(self.history)
        self.write_record("running")
        shown = ", ".join(f"{k} {row[k]:.4f}" for k in _SHOWN if k in row)
        _LOG.info("epoch %d of %d: %s", row["epoch"], self.config.train.epochs, shown)

    def _kept_by(self) -> str:
        if not self.config.data.validates:
            return "last epoch, nothing is validated on"
        return "best validation" if self.config.train.keep == "best" else "last epoch"

    def _is_over_early(self) -> bool:
        train = self.config.train
        patience = train.early_stop_patience
        if self.history[-1]["learning_rate"] < train.minimum_learning_rate:
            return True
        return bool(patience) and len(self.history) - int(self.kept["epoch"]) >= patience


def refuse_state(path: object) -> RunError:
    """Returns the error of a training state that cannot be read."""
    return RunError(
        f"the training state {path} cannot be read: it is damaged or of another network",
        expected="the file that the run left behind",
        action="Copy the run again, or train into a new folder",
    )


def write_weights(path: Path, network: nn.Module, metadata: dict[str, str]) -> None:
    """Writes a network's weights as safetensors, atomically; the same ones give the same bytes."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with atomic_write(path) as handle:
        handle.write(_sorted(safetensors.torch.save(state, metadata=metadata)))


def load_weights(path: Path, network: nn.Module) -> dict[str, str]:
    """Loads the weights that ``write_weights`` wrote into ``network``; returns their metadata.

    Raises:
        RunError: If the file is missing, damaged, or belongs to another network, or a number in it
            is not finite.
    """
    if not path.is_file():
        raise RunError(
            f"{path} is missing",
            expected="a run that finished at least one epoch",
            action="Train it, or continue with --resume",
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        load_strictly(network, state, source=path)
        int(metadata.get("epoch", 0))
    except (
        *(safetensors.SafetensorError, WeightsError, RuntimeError),
        *(OSError, ValueError, TypeError, OverflowError, MemoryError),
    ) as error:
        reason = error.found if isinstance(error, WeightsError) else error
        raise RunError(
            f"{path} does not fit the run's network or is damaged ({reason})",
            expected="the weights that the run wrote",
            action="Copy the run again, or train into a new folder",
        ) from error
    return metadata


def _read_state(path: Path, map_location: Any) -> dict[str, Any]:  # noqa: ANN401 — torch's own
    with zipfile.ZipFile(path) as archive:  # torch compares no checksum
        if archive.testzip() is not None:
            raise ValueError("a part has another checksum")
    state = torch.load(path, map_location=map_location, weights_only=True)
    if not all(key in state for key in _STATE):
        raise ValueError("a part is missing")
    if not all(map(_is_finite, state["state_dict"].values())):
        raise ValueError("a weight is not finite")
    # Lightning's own callbacks would continue with paths that another folder may not have.
    own = Recorder.__qualname__
    return {**state, "callbacks": {own: state["callbacks"][own]}}


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sorted(content: bytes) -> bytes:
    """Returns a safetensors file whose header lists names in order: the library's is by chance."""
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES:start])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # tensors begin at a multiple of eight
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + content[start:]
