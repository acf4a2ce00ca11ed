import copy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.autograd import DeviceType

from dermfuse import bench
from dermfuse.bench import BenchReport, Comparison, bench_train
from dermfuse.bench.limit import (
    ArithmeticLimit,
    count_flop_per_image,
    matmul_flop_per_second,
    rows_of,
)
from dermfuse.bench.plain import PilSamples, PlainLoop, RowBlock, to_tensor
from dermfuse.bench.steps import METERED, StepCost, count_cost
from dermfuse.bench.turns import block_sizes, build_module, pil_samples, take_batches, take_turns
from dermfuse.config import Config, has_masks, load_preset
from dermfuse.data.loaders import PairRows
from dermfuse.data.synthetic import synthesize_isic2016
from dermfuse.errors import ConfigError, DataError, DependencyError
from dermfuse.training.samples import Samples, load_samples, select_lesions

SMALL = (
    "data.input_size=32",
    "train.batch_size=4",
    "model.init=random",
    "augment.malignant_copies=4",
    "augment.segmentation_draws=12",
    "train.device=cpu",
    "train.precision=float32",
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "set"
    synthesize_isic2016(
        folder, train_count=12, test_count=0, size_px=(96, 72), malignant_fraction=0.4
    )
    return folder


def small(preset: str, *assignments: str) -> Config:
    return load_preset(preset).override([*SMALL, *assignments])


def load_both(config: Config, data: Path) -> tuple[Samples, PilSamples]:
    chosen = select_lesions(data, config)
    samples = load_samples(chosen, config)
    return samples, pil_samples(chosen, samples, config)


class TestTheSameWork:
    def test_pil_shows_the_pixels_that_the_batched_augmentation_shows(self, data: Path) -> None:
        samples, plain = load_both(small("mobilenetv1"), data)
        plan = samples.source.plan
        rows = torch.arange(len(plain))
        ours = samples.source.images(rows)
        theirs = torch.stack([plain[row][0] for row in rows.tolist()])
        difference = (ours - theirs).abs()
        whole = np.flatnonzero(plan.crop == 1)
        as_is = whole[plan.brightness[whole] == 1]
        assert len(as_is) > 12
        assert difference[as_is].max() < 1e-5
        assert difference[whole].max() < 1.01 / 255  # PIL rounds after brightness
        assert difference.mean() < 0.01  # and resamples crops in 8 bit

    def test_masks_agree_but_for_a_few_pixels_of_the_border(self, data: Path) -> None:
        samples, plain = load_both(small("u-mobilenetv1"), data)
        rows = torch.arange(len(plain))
        theirs = torch.stack([plain[row][1] for row in rows.tolist()])
        assert theirs.shape == (len(plain), 1, 32, 32)
        assert set(theirs.unique().tolist()) == {0, 1}
        assert (samples.source.masks(rows) != theirs).float().mean() < 0.01

    def test_labels_are_those_of_the_plan(self, data: Path) -> None:
        samples, plain = load_both(small("mobilenetv1"), data)
        drawn = [int(plain[row][1]) for row in range(len(plain))]
        assert drawn == samples.labels.tolist()

    @pytest.mark.parametrize(
        "preset",
        [
            "mobilenetv1",
            "dc-mobilenetv1",
            "dc-mobilenetv1-focal",
            "u-mobilenetv1",
            "u-mobilenetv1-focal",
            "joint-mobilenetv1",
        ],
    )
    def test_both_loops_minimise_the_same_loss(self, preset: str, data: Path) -> None:
        config = small(preset, "augment.enabled=false")
        samples, pil = load_both(config, data)
        torch.manual_seed(0)
        module = build_module(config, samples)
        network = copy.deepcopy(module.network)
        plain = PlainLoop(pil, network, config, workers=0, device=CPU)
        for batch in take_batches(module, 2):  # of pairs: one of Method 1 and one of Method 2
            ours = module.step_loss(module.share(batch)).item()
            loaded = list(plain.load([rows_of(batch)]))
            assert len(loaded) == 1
            tolerance = 0.03 if has_masks(config.model.task) else 1e-3  # border pixels
            assert plain.loss(*loaded[0]).item() == pytest.approx(ours, rel=tolerance)

    def test_training_changes_the_plain_network(self, data: Path) -> None:
        config = small("mobilenetv1")
        samples, pil = load_both(config, data)
        module = build_module(config, samples)
        plain = PlainLoop(pil, module.network, config, workers=0, device=CPU)
        before = [parameter.clone() for parameter in module.network.parameters()]
        plain.train([torch.tensor([0, 1, 2, 3])])
        after = module.network.parameters()
        assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


class TestTurns:
    @pytest.mark.parametrize("preset", ["dc-mobilenetv1", "u-mobilenetv1"])
    def test_a_benchmark_of_a_folder_reports_every_number(self, preset: str, data: Path) -> None:
        seen: list[tuple[int, int]] = []
        report = bench_train(
            small(preset),
            data=data,
            batches=2,
            workers=0,
            progress=lambda done, total: seen.append((done, total)),
        )
        assert seen == [(4, 8), (6, 8), (8, 8)]
        for comparison in (report.training, report.input_path):
            assert comparison.images_per_second > 0
            assert comparison.plain_images_per_second > 0
            assert 0 < comparison.lowest_ratio <= comparison.ratio <= comparison.highest_ratio
        assert report.step.milliseconds > 0
        assert report.step.operators > 500
        assert report.step.kernels is None, "no GPU, no kernels"
        assert report.cached_images == 12
        assert report.images_per_batch == (8 if preset.startswith("dc") else 4)
        assert (report.device, report.precision) == ("CPU", "32-true")
        assert report.torch == torch.__version__
        assert report.data == str(data)

    def test_without_a_folder_the_images_are_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bench, "SYNTHETIC_COUNT", 8)
        monkeypatch.setattr(bench, "SYNTHETIC_SIZE_PX", (80, 64))
        report = bench_train(small("mobilenetv1"), batches=1, workers=0)
        assert report.data == "8 synthetic images of 80 x 64 px"
        assert report.cached_images == 8

    def test_the_number_of_threads_is_restored(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        monkeypatch.setattr(torch, "set_num_threads", asked.append)
        take_turns(small("mobilenetv1", "train.threads=7"), data, batches=1, workers=0)
        assert asked == [7, torch.get_num_threads()]

    @pytest.mark.slow
    def test_worker_processes_load_for_the_plain_loop(self, data: Path) -> None:
        report = bench_train(small("mobilenetv1"), data=data, batches=2, workers=2)
        assert report.workers == 2
        assert report.training.plain_images_per_second > 0

    @pytest.mark.parametrize(
        ("batches", "sizes"),
        [(1, [2, 1]), (4, [2, 1, 1, 1, 1]), (7, [2, 2, 2, 1, 1, 1]), (20, [2, 4, 4, 4, 4, 4])],
    )
    def test_blocks_hold_all_batches_after_the_warm_up(
        self, batches: int, sizes: list[int]
    ) -> None:
        assert block_sizes(batches) == sizes

    def test_pairs_are_loaded_stream_after_stream(self) -> None:
        a, b = torch.tensor([1, 2]), torch.tensor([5, 6])
        assert rows_of(PairRows(a, b, None)).tolist() == [1, 2, 5, 6]
        assert rows_of(a) is a

    def test_a_row_block_can_be_pointed_elsewhere(self) -> None:
        block = RowBlock()
        assert list(block) == []
        block.batches = [[1, 2], [3]]
        assert list(block) == [[1, 2], [3]]
        assert len(block) == 2

    def test_a_grey_picture_becomes_one_channel(self) -> None:
        from PIL import Image

        picture = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
        assert to_tensor(picture).tolist() == [[[0.0, 1.0]]]


class TestArithmeticLimit:
    def test_it_is_the_rate_of_products_over_the_products_of_an_image(self) -> None:
        assert ArithmeticLimit(4.0, 100.0).images_per_second == 25

    def test_the_products_of_a_dense_layer_are_counted_forward_and_twice_backward(
        self, data: Path
    ) -> None:
        config = small("mobilenetv1")
        module = build_module(config, load_samples(select_lesions(data, config), config))
        flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
        module.network = flat
        schedule = take_batches(module, 1)
        assert count_flop_per_image(module, schedule) == 3 * (2 * 3 * 32 * 32 * 2)

    def test_method_1_sends_every_image_through_the_backbone_once(self, data: Path) -> None:
        config = small("dc-mobilenetv1")
        module = build_module(config, load_samples(select_lesions(data, config), config))
        first, second = take_batches(module, 2)
        assert first.partner is not None
        assert second.partner is None
        once, twice = (count_flop_per_image(module, [batch]) for batch in (first, second))
        assert once == pytest.approx(twice / 2, rel=0.05)  # but for the heads

    def test_a_matrix_product_has_a_rate(self) -> None:
        assert matmul_flop_per_second(CPU, torch.float32) > 1e8


class TestReport:
    def test_the_ratio_is_the_median_of_neighbouring_blocks(self) -> None:
        # A slow spell in block 2 hits both loops and leaves the ratio alone.
        comparison = Comparison.from_rates([40.0, 10.0, 44.0], [20.0, 5.0, 20.0])
        assert comparison.images_per_second == 40
        assert comparison.plain_images_per_second == 20
        assert comparison.ratio == 2
        assert (comparison.lowest_ratio, comparison.highest_ratio) == (2, 2.2)

    def test_it_becomes_flat_json(self) -> None:
        comparison = Comparison(100.04, 50.0, 2.004, 1.9, 2.1)
        report = BenchReport(
            preset="dc-mobilenetv1",
            training=comparison,
            input_path=comparison,
            limit_images_per_second=400.16,
            gflop_per_image=1.5,
            step=StepCost(12.345, 800.0, 9.8765, 653.0, 0.0, 0.2),
            cache_seconds=1.234,
            cached_images=40,
            images_per_batch=64,
            batches=20,
            workers=2,
            data="somewhere",
            device="CPU",
            precision="bf16-mixed",
            threads=2,
            torch="2.9",
        )
        record = report.to_dict()
        assert record["training_images_per_second"] == 100.0
        assert record["training_ratio"] == 2.0
        assert record["input_images_per_second_plain"] == 50.0
        assert record["precision_plain"] == "float32"
        assert record["share_of_limit"] == 0.25
        assert (record["step_ms"], record["step_device_ms"]) == (12.35, 9.88)
        assert (record["step_kernels"], record["step_waits"]) == (653, 0.2)
        assert all(isinstance(value, str | int | float) for value in record.values())


class TestSteps:
    def test_events_of_a_gpu_are_kernels_copies_and_waits(self) -> None:
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
        wait = event("cudaStreamSynchronize", here)
        cost = count_cost([*step * METERED, wait], 6.0, on_a_gpu=True)
        assert cost == StepCost(6.0, 2.0, 4.0, 1.0, 1.0, 1 / METERED)
        assert count_cost(step * METERED, 6.0, on_a_gpu=False) == StepCost(6.0, 2.0)

    def test_a_graph_is_refused_where_there_is_no_gpu(self, data: Path) -> None:
        with pytest.raises(ConfigError, match=r"train\.graph is true"):
            bench_train(small("mobilenetv1", "train.graph=true"), data=data, batches=1)


class TestRefusals:
    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ({"batches": 0}, "batches is 0"),
            ({"workers": -1}, "workers is -1"),
            ({"workers": 17}, "workers is 17"),
        ],
    )
    def test_counts_out_of_range_are_refused(self, choices: dict[str, int], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            bench_train("dc-mobilenetv1", **choices)

    def test_an_unknown_preset_is_refused(self) -> None:
        with pytest.raises(ConfigError, match='Did you mean "dc-mobilenetv1"'):
            bench_train("dc-mobilenet1")

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no train images"):
            bench_train(small("mobilenetv1"), data=tmp_path, batches=1)

    def test_without_torch_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bench, "find_spec", lambda name: None)
        with pytest.raises(DependencyError, match=r"pip install -e '\.\[train\]'"):
            bench_train("dc-mobilenetv1")

    def test_importing_it_does_not_import_torch(self) -> None:
        code = "import sys, dermfuse.bench; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
