"""Score tables: read back to the bit, and refused by line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermfuse.data.isic2016 import Label
from dermfuse.errors import PredictionsError, StorageError
from dermfuse.predictions.scores import ScoreTable, read_scores, write_scores


def test_labels_are_numbered_as_the_challenge_numbers_them() -> None:
    assert (Label.BENIGN.value, Label.MALIGNANT.value) == (0, 1)


def test_a_written_table_is_sorted_and_has_the_header(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.csv", ScoreTable(("b", "a"), np.array([0.25, 1.0])))
    assert (tmp_path / "scores.csv").read_bytes() == b"image_id,score\na,1.0\nb,0.25\n"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=20))
def test_scores_and_odd_ids_survive_writing_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float]
) -> None:
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    ids = ('a"b,c', "line\nbreak", "return\rhere", *(f"z{i:02d}" for i in range(len(scores) - 3)))
    write_scores(path, ScoreTable(ids, np.array(scores)))
    read = read_scores(path)
    assert read.image_ids == ids
    assert read.scores.tolist() == scores


def test_columns_in_another_order_with_others_and_a_byte_order_mark_are_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes("\ufefffold,score,image_id\r\n1, 0.5, b \r\n\r\n2,1e-3,a\r\n".encode())
    read = read_scores(path)
    assert read.image_ids == ("a", "b")
    assert read.scores.tolist() == [0.001, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column image_id and no column score"),
        ("image_id,scores\na,0.5\n", "no column score.*header image_id,score"),
        ("image_id,score\n", "has no rows"),
        ("image_id,score\na,0.5\nb,high\n", "line 3: score 'high'"),
        ("image_id,score\na\n", "line 2: score ''"),
        ("image_id,score\na,nan\n", "line 2: score nan"),
        ("image_id,score\na,0.5\nb,1.01\n", "line 3: score 1.01"),
        ("image_id,score\na,-0.01\n", "line 2: score -0.01"),
        ("image_id,score\na,0.5\nb,0.5\na,0.5\n", "line 4: a again, first on line 2"),
        ("image_id,score\n,0.5\n", "line 2: no image_id"),
        ("image_id,score\n" + "x" * 200_000 + ",0.5\n", "not a CSV file"),
        ("\udc89PNG", "cannot be read as text"),
        (None, "does not exist.*dermfuse predict"),
    ],
)
def test_a_bad_table_is_refused_naming_the_line(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "scores.csv"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PredictionsError, match=message):
        read_scores(path)


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        (("a",), [0.1, 0.2], "1 images and scores of shape"),
        (("a", "b", "a"), [0.1, 0.2, 0.3], "a is in the score table more than once"),
        (("a", "b"), [0.1, np.nan], "score of b is nan"),
        (("a", "b"), [1.5, 0.1], "score of a is 1.5"),
    ],
)
def test_a_table_that_is_not_one_score_per_image_is_refused(
    ids: tuple[str, ...], scores: list[float], message: str
) -> None:
    with pytest.raises(PredictionsError, match=message):
        ScoreTable(ids, np.array(scores))


def test_a_table_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_scores(tmp_path / "file" / "scores.csv", ScoreTable(("a",), np.array([0.5])))
