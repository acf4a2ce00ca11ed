from pathlib import Path

import numpy as np
import pytest

from dermfuse.analysis import examples as module
from dermfuse.analysis.examples import DRAWN_FROM, SIZE_PX, analyze_examples, example_images
from dermfuse.data.synthetic import draw_lesion
from dermfuse.errors import DataError
from dermfuse.imaging.preprocess import read_image


def test_the_examples_are_what_was_drawn_from_their_seeds() -> None:
    for path in example_images():
        seed, label = DRAWN_FROM[path.name]
        drawn = draw_lesion(np.random.default_rng(seed), label=label, size_px=SIZE_PX)
        difference = np.abs(read_image(path).astype(int) - drawn.image)
        assert difference.mean() < 4, "what JPEG loses, hair and grain of the skin above all"


def test_the_networks_that_ship_score_and_outline_every_example(tmp_path: Path) -> None:
    report = analyze_examples(tmp_path / "out")
    assert [each["name"] for each in report.analyses] == list(DRAWN_FROM)
    for each in report.analyses:
        assert 0 < each["malignant_probability"] < 1
        assert each["dermoscopy"] is True
        assert 0.03 < each["lesion_area_fraction"] < 0.6
    assert report.page.is_file()
    assert report.outcome.failed == 0


def test_a_copy_without_its_images_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWN_FROM", {"none.jpg": (0, 0)})
    with pytest.raises(DataError, match=r"lacks none\.jpg"):
        example_images()
