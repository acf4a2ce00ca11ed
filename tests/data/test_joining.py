from pathlib import Path

from dermfuse.data.folders import verify_join

from ..two_folders import IMAGES, LABELS, name, write_folder, write_scene


def test_folders_are_counted_together(tmp_path: Path) -> None:
    a = write_folder(
        tmp_path / "a", images="AB", masks="A", labels={"A": "benign", "B": "malignant"}
    )
    b = write_folder(
        tmp_path / "b",
        images="BC",
        masks="ABD",
        labels={"C": "benign", "D": "benign"},
        groups={"B": "x", "C": "x", "A": "y"},
    )
    report = verify_join([a, b])
    assert (report.folders, report.images, report.benign, report.malignant) == (("a", "b"), 3, 2, 1)
    assert (report.masks, report.repeated) == (2, 1)
    assert (report.groups, report.grouped, report.contradictions) == (1, 2, ())
    assert report.to_dict()["images"] == 3


def test_all_contradictions_are_listed(tmp_path: Path) -> None:
    a = write_folder(tmp_path / "a", images="ABC", labels={"A": "benign", "C": "benign"})
    b = write_folder(
        tmp_path / "b", images="ABC", labels={"A": "malignant"}, groups={"A": "x", "Q": "x"}
    )
    c = write_folder(tmp_path / "c", images="D")
    write_scene(b / IMAGES / f"{name('B')}.jpg", "Z", (48, 36))
    (b / IMAGES / f"{name('C')}.jpg").write_bytes(b"no image")
    (b / LABELS).write_text((b / LABELS).read_text() + "damaged\n")
    (c / "groups.csv").write_text("id,group\n")
    sentences = verify_join([a, b, c]).contradictions
    parts = ["is benign in", "is one photograph in", name("C"), "the header is", "is in no folder"]
    assert len(sentences) == len(parts)
    for sentence, part in zip(sentences, parts, strict=True):
        assert part in sentence
