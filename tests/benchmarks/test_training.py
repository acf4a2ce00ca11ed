from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks import training
from benchmarks.training import bench_train, count_cost, count_flop_per_image, take_batches
from dermfuse.config import Config, load_preset
from dermfuse.data.loaders import PairRows
from dermfuse.errors import ConfigError, DataError
from dermfuse.models import build_network
from dermfuse.training.modules import TrainingModule
from dermfuse.training.samples import load_samples, select_lesions
from dermfuse.training.train import MODULES

SMALL = ("data.input_size=32", "train.batch_size=4", "model.init=random", "train.device=cpu")


def small(preset: str, *assignments: str) -> Config:
    return load_preset(preset).override([*SMALL, "train.precision=float32", *assignments])


def build(config: Config, data: Path) -> TrainingModule:
    samples = load_samples(select_lesions(data, config), config)
    return MODULES[config.model.network](build_network(config.model), samples, config)


@pytest.mark.parametrize("preset", ["dc-mobilenetv1", "u-mobilenetv1"])
def test_a_folder_is_trained_on_and_every_number_reported(preset: str, drawn: Path) -> None:
    threads = torch.get_num_threads()
    record = bench_train(small(preset, "train.threads=1"), data=drawn, steps=2)
    assert record["images_per_second"] > 0
    assert 0 < record["share_of_limit"] < 1
    assert record["step_ms"] > 0
    assert record["step_operators"] > 500
    assert record["step_kernels"] is None, "no GPU, no kernels"
    assert record["cached_images"] == 30
    assert record["images_per_batch"] == (8 if preset.startswith("dc") else 4)
    assert (record["device"], record["precision"], record["threads"]) == ("CPU", "32-true", 1)
    assert record["data"] == str(drawn)
    assert torch.get_num_threads() == threads


def test_without_a_folder_the_images_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "DRAWN", 8)
    monkeypatch.setattr(training, "DRAWN_PX", (80, 64))
    record = bench_train(small("mobilenetv1", "augment.malignant_copies=4"), steps=1)
    assert (record["data"], record["cached_images"]) == ("8 synthetic images of 80 x 64 px", 8)


def test_the_products_of_a_dense_layer_are_counted_forward_and_twice_backward(drawn: Path) -> None:
    module = build(small("mobilenetv1"), drawn)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
    module.network = module.trained_pass = flat
    assert count_flop_per_image(module, take_batches(module, 1)) == 3 * (2 * 3 * 32 * 32 * 2)


def test_method_1_sends_every_image_through_the_backbone_once(drawn: Path) -> None:
    module = build(small("dc-mobilenetv1"), drawn)
    first, second = take_batches(module, 2)
    assert first.partner is not None
    assert second.partner is None
    once, twice = (count_flop_per_image(module, [batch]) for batch in (first, second))
    assert once == pytest.approx(twice / 2, rel=0.05)  # but for the heads


def test_pairs_are_counted_stream_after_stream() -> None:
    a, b = torch.tensor([1, 2]), torch.tensor([5, 6])
    assert training.rows_of(PairRows(a, b, None)).tolist() == [1, 2, 5, 6]
    assert training.rows_of(a) is a


def test_events_of_a_gpu_are_kernels_copies_and_waits() -> None:
    def event(name: str, device: DeviceType, microseconds: float = 0) -> SimpleNamespace:
        return SimpleNamespace(name=name, device_type=device, device_time=microseconds)

    there, here = DeviceType.CUDA, DeviceType.CPU
    step = [
        event("aten::conv2d", here),
        event("aten::convolution", here),
        event("cudaLaunchKernel", here),
        event("sgemm", there, 3000),
        event("Memset (Device)", there, 500),
        event("Memcpy HtoD (Pageable -> Device)", there, 500),
    ]
    cost = count_cost([*step * 4, event("cudaStreamSynchronize", here)], 4, on_a_gpu=True)
    assert list(cost.values()) == [2.0, 4.0, 1.0, 1.0, 0.25]
    assert list(count_cost(step * 4, 4, on_a_gpu=False).values()) == [2.0, None, None, None, None]


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="steps is 0"):
        bench_train(small("mobilenetv1"), steps=0)
    with pytest.raises(ConfigError, match=r"train\.graph is true"):
        bench_train(small("mobilenetv1", "train.graph=true"), steps=1)
    with pytest.raises(DataError, match="holds no train images"):
        bench_train(small("mobilenetv1"), data=tmp_path, steps=1)
