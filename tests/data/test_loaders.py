from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dermfuse.config import AugmentConfig
from dermfuse.data.augment import Plan, classification_plan, originals
from dermfuse.data.isic2016 import Lesion, load_isic2016
from dermfuse.data.labels import Label
from dermfuse.data.loaders import (
    ImageCache,
    SampleSource,
    epoch_batches,
    fit_back,
    fit_mask,
    fit_probability,
    fit_square,
    load_cache,
    pair_schedule,
    single_schedule,
)
from dermfuse.errors import ImageError
from dermfuse.imaging.preprocess import read_image, squeeze


def _one(**columns: object) -> Plan:
    return replace(originals(1), **{key: np.array([value]) for key, value in columns.items()})


def _source(count: int, size: int = 8) -> SampleSource:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))
    masks = torch.from_numpy(rng.integers(0, 2, (count, 1, size, size), dtype=np.uint8))
    return SampleSource.from_plan(ImageCache(images, masks), originals(count))


def test_an_original_is_the_decoded_image_exactly() -> None:
    source = _source(3)
    images = source.images(torch.tensor([2, 0]))
    assert torch.equal((images * 255).round().to(torch.uint8), source.cache.images[[2, 0]])
    assert torch.equal(source.masks(torch.tensor([1])), source.cache.masks[[1]].float())


def test_the_same_row_gives_the_same_pixels() -> None:
    plan = replace(
        originals(2),
        mirror=np.array([True, False]),
        rotation=np.array([3, 1]),
        crop=np.array([0.85, 0.9], np.float32),
        brightness=np.array([0.9, 1.1], np.float32),
        occlusion=np.array([[0, 0, 0.2, 0.2], [0.5, 0.5, 0.1, 0.2]], np.float32),
    )
    source = _source(2).redrawn(plan)
    both = source.images(torch.tensor([0, 1]))
    assert torch.allclose(both[1:], source.images(torch.tensor([1])), atol=1e-6)
    assert torch.equal(both, source.images(torch.tensor([0, 1])))


def test_pixels_are_augmented_in_float32_under_autocast() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=24, noise=0)
    plan = classification_plan(["a"], [Label.BENIGN], config, seed=0)
    source, rows = _source(1).redrawn(plan), torch.arange(24)
    with torch.autocast("cpu", torch.bfloat16):
        images, masks = source.images(rows), source.masks(rows)
    assert torch.equal(images, source.images(rows))
    assert torch.equal(masks, source.masks(rows))


def test_a_mask_moves_with_its_image_and_stays_binary() -> None:
    source = _source(1)
    plan = _one(mirror=True, rotation=1, crop=np.float32(0.9))
    cache = replace(source.cache, images=source.cache.masks.expand(1, 3, 8, 8) * 255)
    moved = SampleSource.from_plan(cache, plan)
    row = torch.tensor([0])
    assert torch.equal((moved.images(row)[:, :1] >= 0.5).float(), moved.masks(row))


def test_masks_that_were_not_loaded_cannot_be_had() -> None:
    cache = ImageCache(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), None)
    source = SampleSource.from_plan(cache, originals(1))
    with pytest.raises(ValueError, match="holds no masks"):
        source.masks(torch.tensor([0]))


def test_the_cache_holds_what_preprocess_reads(drawn: Path) -> None:
    lesions = load_isic2016(drawn, "train").lesions[:3]
    done: list[tuple[int, int]] = []
    cache = load_cache(lesions, 32, masks=True, progress=lambda *at: done.append(at))
    expected = squeeze(read_image(lesions[1].image_path), 32).transpose(2, 0, 1)
    assert np.array_equal(cache.images[1].numpy(), expected)
    assert cache.masks is not None
    assert cache.masks.shape == (3, 1, 32, 32)
    assert set(cache.masks.unique().tolist()) == {0, 1}
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_a_mask_of_another_size_than_its_image_is_refused(drawn: Path, tmp_path: Path) -> None:
    lesion = load_isic2016(drawn, "train").lesions[0]
    Image.new("L", (32, 32)).save(tmp_path / "mask.png")
    odd = replace(lesion, mask_path=tmp_path / "mask.png")
    with pytest.raises(ImageError, match=r"is 32 x 32 px. Expected: its image's size, 80 x 64 px"):
        load_cache([odd], 32, masks=True)
    with pytest.raises(ImageError, match="has no mask"):
        load_cache([Lesion("x", lesion.image_path, None, None)], 32, masks=True)


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [(65, 32, [22] * 3), (64, 32, [32] * 2), (7, 32, [7]), (9, 2, [2] * 5), (3540, 32, [32] * 111)],
)
def test_batches_are_of_one_size_and_lose_no_row(
    rows: int, batch_size: int, sizes: list[int]
) -> None:
    batches = epoch_batches(np.arange(rows), batch_size, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == sizes
    seen = np.bincount(np.concatenate(batches))
    assert len(seen) == rows
    assert seen.min() == 1, "every row is seen"
    assert seen.max() <= 2, "and some of them twice, to fill up the last batch"
    assert all(len(set(batch.tolist())) == len(batch) for batch in batches), "never in one batch"


def test_an_epochs_order_depends_on_seed_and_epoch_alone() -> None:
    rows = np.arange(40)
    orders = [
        torch.cat(single_schedule(rows, 8, seed=seed, epoch=epoch)).tolist()
        for seed, epoch in ((0, 3), (0, 3), (0, 4), (1, 3))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_pairs_alternate_one_to_four_over_the_iterations() -> None:
    labels = np.arange(70) % 2
    epochs = [list(pair_schedule(np.arange(70), labels, 10, seed=0, epoch=e)) for e in range(2)]
    shared = [pair.partner is not None for epoch in epochs for pair in epoch]
    assert shared == [i % 5 == 0 for i in range(14)], "the count runs on over the epochs"


def test_method_1_permutes_stream_a_and_method_2_shuffles_anew() -> None:
    labels = np.arange(60) % 3 // 2
    for pair in pair_schedule(np.arange(60), labels, 20, seed=0, epoch=0):
        if pair.partner is None:
            assert sorted(pair.a.tolist()) != sorted(pair.b.tolist())
        else:
            assert torch.equal(pair.a[pair.partner], pair.b)
            unequal = (labels[pair.a] != labels[pair.b]).sum()
            assert unequal <= 2, "at most one matched pair has unequal labels"


@pytest.mark.gpu
def test_the_device_changes_no_moved_pixel() -> None:
    source = _source(4)
    on_device = source.to(torch.device("cuda"))
    rows = torch.arange(4)
    assert torch.equal(source.images(rows), on_device.images(rows.cuda()).cpu())


def test_a_letterboxed_frame_keeps_its_aspect_and_comes_back() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[8:24, 24:40] = 255  # a square of a quarter of the width
    square = fit_square(image, 64, "letterbox")
    lit = square[..., 0] > 128
    assert (lit[16:48].any(axis=1).sum(), lit[16:48].any(axis=0).sum()) == (16, 16)
    mask = fit_mask(image[..., 0] > 128, 64, "letterbox")
    assert mask is not None
    assert np.array_equal(mask[16:48].astype(bool), lit[16:48])
    back = fit_back(mask.astype(np.float32), 32, 64, "letterbox")
    assert np.array_equal(back > 0.5, image[..., 0] > 128)
    again = fit_probability(back, 64, "letterbox")
    assert np.array_equal(again[16:48] > 0.5, lit[16:48])


def test_a_squeezed_frame_is_as_wide_as_high() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[8:24, 24:40] = 255
    lit = fit_square(image, 32, "squeeze")[..., 0] > 128
    assert (lit.any(axis=1).sum(), lit.any(axis=0).sum()) == (16, 8)
    assert fit_mask(None, 32, "squeeze") is None
