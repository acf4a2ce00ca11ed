"""The app reads the formats that the library writes."""

import re
from pathlib import Path

import pytest

from dermfuse.release import cards, folder

READING = Path(__file__).parents[2] / "web" / "src" / "release" / "reading.ts"


@pytest.mark.parametrize(
    ("name", "written"), [("RELEASE_FORMAT", folder.FORMAT), ("CARD_FORMAT", cards.FORMAT)]
)
def test_the_app_reads_the_format_that_is_written(name: str, written: int) -> None:
    assert re.findall(rf"const {name} = (\d+);", READING.read_text()) == [str(written)]
