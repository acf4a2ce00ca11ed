from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.config import Config, ModelConfig, TrainConfig, load_preset
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import DataError, ExportError
from dermfuse.predictions.scores import read_scores
from dermfuse.publishing import release as build
from dermfuse.publishing.measured import require_recipe
from dermfuse.publishing.release import ReleaseRequest, build_release
from dermfuse.release.folder import OUT_OF_FOLD_NAME, read_release
from dermfuse.training.prediction import TrainedNetwork

from .conftest import TINY, Plant

NETWORKS = {"a": "mobilenetv1", "b": "mobilenetv1", "u": "u-mobilenetv1"}


def _trained(run: str, **train: object) -> TrainedNetwork:
    config = Config(name="small", train=replace(TrainConfig(), **train))  # type: ignore[arg-type]
    return TrainedNetwork(None, config, 1, Path(run))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def request_for(
    tinted: Path, plant: Plant, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ReleaseRequest]:
    """Two class networks and a U-Net, each in two folds and on all images."""
    folder = tmp_path_factory.mktemp("runs")
    for name, preset in NETWORKS.items():
        config = load_preset(preset).override([*TINY, "train.schedule=cosine"])
        config = replace(config, name=name)
        plant(config.override(["data.split=all"]), tinted, folder / f"{name}-all")
        for fold in range(2):
            own = config.override(["data.folds=2", f"data.fold={fold}"])
            plant(own, tinted, folder / f"{name}-{fold}")

    def make(out: Path, **more: object) -> ReleaseRequest:
        fixed = {"data": tinted, "out": out, "name": "tiny", "precision": "float32"}
        runs = [folder / f"{name}-all" for name in NETWORKS]
        folds = [folder / f"{name}-{fold}" for name in NETWORKS for fold in (1, 0)]
        return ReleaseRequest(**{**fixed, "runs": runs, "folds": folds, **more})  # type: ignore[arg-type]

    return make


def test_runs_become_a_release_that_analyses(
    request_for: Callable[..., ReleaseRequest], tinted: Path, tmp_path: Path, hand_made: None
) -> None:
    listed = tmp_path / "half.csv"
    ids = [lesion.image_id for lesion in load_isic2016(tinted, "train").lesions]
    listed.write_text("image_id\n" + "\n".join(ids[::2]))
    out = tmp_path / "release"
    begun: list[str] = []
    request = request_for(out, looks=4, report_on=[listed])
    built = build_release(request, stage=lambda what, *_: begun.append(what))
    release = read_release(out)
    assert begun[0] == "exporting the networks"
    assert (release.classes, release.masks, release.gate) == (
        built.classes, built.masks, built.gate,
    )  # fmt: skip
    assert release.looks == 4
    assert [member.name for member in release.classes.members] == ["a-all", "b-all"]
    measured = release.classes.measured
    assert measured["images"] == 60
    assert measured["subsets"]["half"]["images"] == 30
    assert measured["fusion"]["auc"]["value"] > 0.8, "the tint tells the class"
    assert set(measured["one_look"]["gain"]) == {"auc", "average_precision"}
    assert release.masks.measured["images"] == 60
    assert release.masks.measured["subsets"]["half"]["images"] == 30
    assert release.facts["fold_runs"][:2] == ["a-1", "a-0"]
    assert len(read_scores(out / OUT_OF_FOLD_NAME).image_ids) == 60
    path = load_isic2016(tinted, "train").lesions[0].image_path
    analysis = Analyzer(out, score_all=True).analyze(path)
    assert analysis.looks == 4
    assert analysis.malignant_probability is not None


def test_a_subset_without_both_classes_is_refused_before_anything_is_exported(
    request_for: Callable[..., ReleaseRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "elsewhere.csv"
    listed.write_text("ISIC_9999999\n")
    monkeypatch.setattr(build, "export_shipped", lambda *_, **__: pytest.fail("exported"))
    request = request_for(tmp_path / "release", report_on=[listed])
    with pytest.raises(DataError, match="of elsewhere 0 malignant and 0 benign images"):
        build_release(request)
    assert not (tmp_path / "release").exists()


def test_folds_of_another_recipe_are_refused_and_seeds_and_threads_are_not_the_recipe() -> None:
    final = _trained("final")
    require_recipe(final, _trained("fold", seed=3, threads=2))
    with pytest.raises(ExportError, match=r"fold was trained with train.epochs 2, final with 50"):
        require_recipe(final, _trained("fold", epochs=2))


def test_how_the_images_are_split_is_not_the_recipe_and_their_size_is() -> None:
    final, fold = _trained("final"), _trained("fold")
    split = fold.config.override(["data.folds=3", "data.fold=1"])
    require_recipe(final, replace(fold, config=split))
    larger = replace(fold, config=split.override(["data.input_size=320"]))
    with pytest.raises(ExportError, match=r"trained with data.input_size 320, final with 224"):
        require_recipe(final, larger)


def test_a_release_needs_a_network_of_each_kind_and_none_of_both() -> None:
    classifier, unet, joint = (
        replace(_trained(kind), config=Config(model=ModelConfig(network=kind)))  # type: ignore[arg-type]
        for kind in ("classifier", "unet", "joint")
    )
    build._require_both([classifier] * 3 + [unet], [classifier] * 3, [unet])
    with pytest.raises(ExportError, match="3 networks that score, 0 that outline and 0 that do"):
        build._require_both([classifier] * 3, [classifier] * 3, [])
    with pytest.raises(ExportError, match="1 networks that score, 1 that outline and 1 that do"):
        build._require_both([classifier, unet, joint], [classifier], [unet])


def test_two_networks_of_one_name_are_refused() -> None:
    with pytest.raises(ExportError, match="two of the networks that ship are called small"):
        build._require_names([_trained("a"), _trained("b")])


def test_a_network_without_folds_is_named() -> None:
    other = replace(_trained("other"), config=Config(name="other"))
    fold = _trained("fold")
    assert build._folds_of(_trained("final"), [other, fold]) == [fold]
    with pytest.raises(ExportError, match="final has no folds"):
        build._folds_of(_trained("final"), [other])


def test_a_release_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {
        kind: replace(_trained(kind), config=Config(name=kind, model=ModelConfig(network=kind)))  # type: ignore[arg-type]
        for kind in ("classifier", "unet")
    }
    monkeypatch.setattr(build, "load_run", lambda run, **_: kinds[run.name])

    def fail(*arguments: object, **_: object) -> None:
        out = next(a for a in arguments if isinstance(a, Path) and a.name.startswith(".release"))
        (out / "half").write_text("half")
        raise ExportError("no")

    monkeypatch.setattr(build, "export_shipped", fail)
    runs = [Path("classifier"), Path("unet")]
    request = ReleaseRequest(
        runs=runs, folds=runs, data=tmp_path, out=tmp_path / "release", name="x"
    )
    with pytest.raises(ExportError):
        build_release(request)
    assert list(tmp_path.iterdir()) == []
