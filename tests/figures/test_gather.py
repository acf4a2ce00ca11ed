import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import ConfigError, DataError, RunError
from dermfuse.figures.gather import draw_figures, write_figures
from dermfuse.figures.style import DPI, WIDTH_IN
from dermfuse.predictions.fusion import fuse
from dermfuse.records.folders import NOTICE
from dermfuse.report.page import Picture

from .conftest import Make

ALL = [f"fig-{name}" for name in ("08-training-curves", "09-activation-maps", "10-tsne")]
ALL += ["fig-11-training-curves", "fig-12-probability-maps"]
ALL += [f"fig-{name}-{n}" for name in ("13-hard-images", "14-worst-masks") for n in (1, 2)]
ALL += ["fig-14-wrong-classes", "reliability", "roc-and-recall", "decision-curve"]


def test_everything_is_drawn_from_runs_and_predictions(
    make_run: Make, make_scores: Make, make_masks: Make, drawn: Path, tmp_path: Path
) -> None:
    runs = [make_run(tmp_path / name, name) for name in ("squeezenet", "u-mobilenetv1")]
    scores = [make_scores(tmp_path / name, name, seed=i) for i, name in enumerate("ab")]
    masks = [make_masks(tmp_path / f"u{px}", f"u{px}", moved_px=px) for px in (2, 6)]

    def fail(figure: str, why: str) -> None:
        pytest.fail(f"{figure}: {why}")

    pictures = draw_figures(runs, [*scores, *masks], data=drawn, draws=20, skipped=fail)
    assert [picture.name for picture in pictures] == ALL
    for picture in pictures:
        assert Image.open(io.BytesIO(picture.png)).width == WIDTH_IN * DPI
        assert "validation: n = 12 images" in picture.caption
    said = {picture.name: picture.caption for picture in pictures}
    assert "u2; u6; fusion: mean of both." in said["fig-12-probability-maps"]
    assert "The 8 images with the lowest Jaccard" in said["fig-14-worst-masks-2"]
    assert "missed melanomas from the lowest score on" in said["fig-14-wrong-classes"]


def test_a_fusion_stands_for_its_members_and_the_papers_figures_may_stand_alone(
    make_scores: Make, make_masks: Make, drawn: Path, tmp_path: Path
) -> None:
    scores = [make_scores(tmp_path / name, name, seed=i) for i, name in enumerate("ab")]
    masks = [make_masks(tmp_path / f"u{px}", f"u{px}", moved_px=px) for px in (2, 6)]
    fused = tmp_path / "classes", tmp_path / "outlines"
    for pair, out in zip((scores, masks), fused, strict=True):
        fuse(*pair, out)
    skipped: dict[str, str] = {}
    folders = [*scores, *masks, *fused]
    pictures = draw_figures([], folders, data=drawn, paper=True, skipped=skipped.__setitem__)
    assert [(picture.name, picture.caption.partition("n = 12 ")[2]) for picture in pictures] == [
        ("fig-12-probability-maps", "images; u2; u6; fusion of u2 and u6."),
        ("fig-13-hard-images", "images; fusion of u2 and u6."),
        ("fig-14-worst-masks", "images; fusion of u2 and u6."),
        ("fig-14-wrong-classes", "images (3 malignant); fusion of a and b."),
    ]
    assert list(skipped) == [f"Fig. {n}" for n in (8, 9, 10, 11)]


def test_what_is_not_there_is_named_with_the_reason(
    make_scores: Make, drawn: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="seed is -1"):
        draw_figures([tmp_path / "missing"], [], data=tmp_path, seed=-1)
    skipped: dict[str, str] = {}
    folder = make_scores(tmp_path / "a", "a")
    pictures = draw_figures([], [folder], data=drawn, draws=20, skipped=skipped.__setitem__)
    assert [picture.name for picture in pictures] == ALL[-4:]
    assert list(skipped) == [f"Fig. {n}" for n in range(8, 14)] + ["Fig. 14, masks"]
    assert skipped["Fig. 9"].startswith("there is no run of a class network")
    assert skipped["Fig. 11"].startswith("there is no run for segmentation")
    assert skipped["Fig. 12"].startswith("no predictions folder holds probability maps")
    assert skipped["Fig. 13"].startswith("no predictions folder has what it shows")
    (folder / "scores.csv").write_text("image_id,score\nISIC_0000001,0.5\n")
    with pytest.raises(DataError, match=r"no figure can be drawn \(there is no run for class"):
        draw_figures([], [folder], data=drawn, skipped=skipped.__setitem__)
    assert "ISIC_0000001, unknown in" in skipped["Decision curve"]


def test_pictures_and_captions_are_written_into_a_new_folder(tmp_path: Path) -> None:
    out = tmp_path / "figures"
    picture = Picture("fig-08", "Training", "Loss.", b"png")
    said = write_figures(out, [picture], not_drawn=[("Fig. 9", "no run")])
    assert (out / "fig-08.png").read_bytes() == b"png"
    assert json.loads((out / "figures.json").read_text()) == said
    assert said == {
        "figures": [{"file": "fig-08.png", "title": "Training", "caption": "Loss."}],
        "not_drawn": [{"figure": "Fig. 9", "why": "no run"}],
        "notice": NOTICE,
    }
    with pytest.raises(RunError, match="exists and is not empty"):
        write_figures(out, [picture])
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 4), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "png")
    write_figures(tmp_path / "webp", [Picture("f", "T", "C.", file.getvalue())], webp=True)
    with Image.open(tmp_path / "webp" / "f.webp") as image:
        assert (image.format, image.size) == ("WEBP", (64, 64))
    assert (tmp_path / "webp" / "f.webp").stat().st_size < len(file.getvalue())
