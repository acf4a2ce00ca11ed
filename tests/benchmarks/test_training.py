from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks import training
from benchmarks.training import bench_train, count_cost, count_flop_per_image, take_batches
from dermfuse.config import Config, load_preset
from dermfuse.errors import ConfigError
from dermfuse.models import build_network
from dermfuse.training.samples import load_samples, select_lesions
from dermfuse.training.train import MODULES

SMALL = ("data.input_size=32", "train.batch_size=4", "model.init=random", "train.device=cpu")


def small(preset: str, *assignments: str) -> Config:
    return load_preset(preset).override([*SMALL, "train.precision=float32", *assignments])


def test_a_training_is_measured_on_a_folder_or_on_drawn_images(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench_train(small("dc-mobilenetv1", "train.threads=1"), data=drawn, steps=2)
    assert 0 < record["share_of_limit"] < 1
    assert record["step_operators"] > 500
    assert record["step_kernels"] is None, "no GPU, no kernels"
    assert (record["cached_images"], record["images_per_batch"]) == (30, 8), "both streams'"
    monkeypatch.setattr(training, "DRAWN", 8)
    record = bench_train(small("u-mobilenetv1"), steps=1)
    assert record["data"] == "8 synthetic images of 427 x 320 px"
    with pytest.raises(ConfigError, match="steps is 0"):
        bench_train(small("mobilenetv1"), steps=0)


def test_products_are_counted_forward_and_twice_backward_and_of_pairs_as_they_pass(
    drawn: Path,
) -> None:
    config = small("dc-mobilenetv1")
    samples = load_samples(select_lesions(drawn, config), config)
    module = MODULES["discriminant"](build_network(config.model), samples, config)
    first, second = take_batches(module, 2)
    assert (first.partner is None, second.partner is None) == (False, True)
    once, twice = (count_flop_per_image(module, [batch]) for batch in (first, second))
    assert once == pytest.approx(twice / 2, rel=0.05), "Method 1 passes an image once"
    module = MODULES["classifier"](torch.nn.Linear(1, 1), samples, config)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
    module.network = module.trained_pass = flat
    assert count_flop_per_image(module, take_batches(module, 1)) == 3 * (2 * 3 * 32 * 32 * 2)


def test_events_of_a_gpu_are_kernels_copies_and_waits() -> None:
    def event(name: str, device: DeviceType, microseconds: float = 0) -> SimpleNamespace:
        return SimpleNamespace(name=name, device_type=device, device_time=microseconds)

    there, here = DeviceType.CUDA, DeviceType.CPU
    step = [event(n, here) for n in ("aten::conv2d", "aten::convolution", "cudaLaunchKernel")]
    step += [event("sgemm", there, 3000), event("Memset (Device)", there, 500)]
    step += [event("Memcpy HtoD (Pageable -> Device)", there, 500)]
    cost = count_cost([*step * 4, event("cudaStreamSynchronize", here)], 4, on_a_gpu=True)
    assert list(cost.values()) == [2.0, 4.0, 1.0, 1.0, 0.25]
