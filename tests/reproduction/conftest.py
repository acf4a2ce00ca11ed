"""A reproduction in small: two pair networks, trained in this process, and all that follows."""

import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from dermfuse.data.splits import write_split
from dermfuse.models import build_network
from dermfuse.records.folders import RunFolder, write_json, write_text
from dermfuse.reproduction.reproduce import Request, plan_request
from dermfuse.training.jobs import Run
from dermfuse.training.recorder import write_weights
from dermfuse.training.samples import select_lesions
from dermfuse.training.train import train

TINY = (
    "model.init=random",
    "train.backbone=trained",
    "data.input_size=32",
    "train.epochs=1",
    "train.batch_size=8",
    "augment.benign_copies=1",
    "augment.malignant_copies=1",
    "augment.segmentation_draws=0",
    "train.precision=float32",
    "train.threads=1",
)


@pytest.fixture(scope="session")
def without_test_truth(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn dataset as the archive of the challenge's time: test images without truth."""
    folder = tmp_path_factory.mktemp("blind") / "data"
    shutil.copytree(drawn, folder)
    for path in folder.glob("*_Test_GroundTruth*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def request_for(
    data: Path, out: Path, tables: Sequence[str], *more: str, **options: int
) -> Request:
    """Returns the request for some tables in small."""
    return Request(
        data=data,
        out=out,
        tables=tables,
        overrides=(*TINY, *more),
        draws=50,
        **options,  # type: ignore[arg-type]
    )


def train_here(request: Request, leave_out: Sequence[str] = ()) -> list[Run]:
    """Trains the runs of a request in this process, which is quicker than one for each."""
    trained = [run for run in plan_request(request).runs if run.preset not in leave_out]
    for run in trained:
        train(run.config, data=request.data, run=request.run_folder(run))
    return trained


def plant_here(request: Request, presets: Sequence[str]) -> list[Run]:
    """Leaves the runs of some presets as a training would, with weights that learnt nothing."""
    planted = [run for run in plan_request(request).runs if run.preset in presets]
    for run in planted:
        folder = RunFolder(request.run_folder(run))
        chosen = select_lesions(request.data, run.config)
        write_text(folder.config, run.config.to_toml())
        write_split(folder.split, chosen.split)
        with torch.random.fork_rng():
            torch.manual_seed(zlib.crc32(run.name.encode()))
            network = build_network(run.config.model)
        write_weights(folder.weights, network, {"epoch": "1", "head": "a"})
        record = {"status": "finished", "epochs": 1, "seconds": 1.0, "data": {"summary": "drawn"}}
        record |= {"device": "CPU", "machine": "a machine", "precision": "32-true"}
        write_json(folder.record, record)
    return planted
