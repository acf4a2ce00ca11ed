from pathlib import Path

import pytest

from dermfuse.analysis import examples
from dermfuse.errors import DataError


def test_the_networks_that_ship_score_and_outline_every_example(tmp_path: Path) -> None:
    report = examples.analyze_examples(tmp_path / "out")
    assert [each["name"] for each in report.analyses] == list(examples.EXAMPLES)
    assert all(0 < each["malignant_probability"] < 1 for each in report.analyses)
    assert all(0.03 < each["lesion_area_fraction"] < 0.6 for each in report.analyses)


def test_a_copy_without_its_images_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "EXAMPLES", ("none.jpg",))
    with pytest.raises(DataError, match=r"lacks none\.jpg"):
        examples.example_images()
