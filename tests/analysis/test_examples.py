from pathlib import Path

import pytest

from dermfuse.analysis import examples as module
from dermfuse.analysis.examples import EXAMPLES, analyze_examples, example_images
from dermfuse.errors import DataError


def test_the_networks_that_ship_score_and_outline_every_example(tmp_path: Path) -> None:
    report = analyze_examples(tmp_path / "out")
    assert [each["name"] for each in report.analyses] == list(EXAMPLES)
    for each in report.analyses:
        assert 0 < each["malignant_probability"] < 1
        assert each["dermoscopy"] is True
        assert 0.03 < each["lesion_area_fraction"] < 0.6
    assert report.page.is_file()
    assert report.outcome.failed == 0


def test_a_copy_without_its_images_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXAMPLES", ("none.jpg",))
    with pytest.raises(DataError, match=r"lacks none\.jpg"):
        example_images()
