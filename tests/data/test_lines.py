from pathlib import Path

import pytest

from dermfuse.data.isic2016 import read_lines
from dermfuse.errors import DataError


def test_lines_keep_their_numbers_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xef\xbb\xbfimage_id, part\r\n\r\nISIC_0000000 ,mask\n , \n")
    assert read_lines(path, action="") == [(1, ["image_id", "part"]), (3, ["ISIC_0000000", "mask"])]


@pytest.mark.parametrize("content", [b"\xff\xfe", b'a,"b'])
def test_what_is_no_text_or_no_csv_is_refused_with_what_to_do(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read .*Mend it"):
        read_lines(path, action="Mend it")
    with pytest.raises(DataError, match="cannot be read"):
        read_lines(tmp_path / "no.csv", action="")
