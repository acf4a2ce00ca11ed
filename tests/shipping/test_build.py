from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermfuse.config import Config, ModelConfig, TrainConfig
from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import ExportError
from dermfuse.metrics import average_precision
from dermfuse.preprocess import write_mask
from dermfuse.release.cards import NetworkCard, NetworkInput, Parity
from dermfuse.scores import Label
from dermfuse.shipping import build
from dermfuse.shipping.out_of_fold import FoldAnswers, require_recipe
from dermfuse.training.prediction import TrainedNetwork


def _card(name: str) -> NetworkCard:
    return NetworkCard(
        name=name,
        task="classification",
        file=f"{name}.onnx",
        sha256="0" * 64,
        bytes=1,
        precision="int8",
        input=NetworkInput(size=32),
        outputs={},
        preset=name,
        backbone="none",
        parameters=1,
        epoch=1,
        training={},
        weights_licence="none",
        parity=Parity(against="itself", images=1, largest_difference={}),
    )


def _lesions(count: int, first: int = 0, mask: Path | None = None) -> tuple[Lesion, ...]:
    return tuple(
        Lesion(f"I{number:03}", Path("none"), mask, Label(number % 2))
        for number in range(first, first + count)
    )


def _folds(scores: Sequence[float]) -> tuple[FoldAnswers, ...]:
    """Two folds of half of the scores each."""
    half = len(scores) // 2
    found = []
    for first in (0, half):
        answers = {"malignant": np.array(scores[first : first + half], np.float32)}
        exact = {"malignant": 1 - answers["malignant"]}
        found.append(FoldAnswers(_lesions(half, first), answers, exact, (), None))
    return tuple(found)


def _scores(seed: int, separation: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 2
    return np.clip(0.5 + separation * (labels - 0.5) + rng.normal(0, 0.2, 60), 0.01, 0.99)


def test_scores_of_both_networks_are_fused_calibrated_and_measured_out_of_fold() -> None:
    a, b = _scores(1, 0.3), _scores(2, 0.2)
    found = build._class_release([(_card("a"), _folds(a)), (_card("b"), _folds(b))])
    weights = [member.weight for member in found.members]
    assert [member.name for member in found.members] == ["a", "b"]
    assert sum(weights) == pytest.approx(1.0)
    labels = np.arange(60) % 2
    fused = weights[0] * a + weights[1] * b
    measured = found.measured["fusion"]["average_precision"]
    assert measured["value"] == pytest.approx(average_precision(labels, fused), abs=1e-6)
    assert measured["low"] <= measured["value"] <= measured["high"]
    assert measured["value"] >= max(average_precision(labels, x) for x in (a, b)) - 1e-9
    exact = found.measured["fusion_in_float32"]["auc"]["value"]
    assert exact == pytest.approx(1 - found.measured["fusion"]["auc"]["value"]), "turned round"
    assert (found.measured["images"], found.measured["malignant"]) == (60, 30)
    assert found.point().name == "sensitivity90"
    calibrated = found.calibration(fused)
    assert np.mean(calibrated[labels == 1] >= found.point().threshold) >= 0.9


def test_one_network_alone_has_the_whole_weight() -> None:
    found = build._class_release([(_card("a"), _folds(_scores(1, 0.3)))])
    assert [(member.name, member.weight) for member in found.members] == [("a", 1.0)]


def test_maps_of_several_sizes_are_averaged_at_the_size_of_the_mask(tmp_path: Path) -> None:
    mask = np.zeros((32, 32), bool)
    mask[:, :16] = True
    write_mask(tmp_path / "mask.png", mask)
    lesions = _lesions(2, mask=tmp_path / "mask.png")
    left, everywhere = np.zeros((2, 32, 32), np.float32), np.full((2, 16, 16), 0.9, np.float32)
    left[:, :, :16] = 1.0
    asked = [
        (_card(name), (FoldAnswers(lesions, {"lesion": maps}, {"lesion": maps**9}, (), None),))
        for name, maps in (("left", left), ("all", everywhere))
    ]
    measured = build._mask_release(asked).measured
    assert measured["networks"]["left"]["jaccard"]["value"] == 1.0
    assert measured["networks"]["all"]["jaccard"]["value"] == 0.5
    assert measured["fusion"]["jaccard"]["value"] == 1.0, "0.95 on the left, 0.45 on the right"
    assert measured["fusion_in_float32"]["jaccard"]["value"] == 1.0, "0.69 and 0.19"
    assert measured["images"] == 2


def _trained(run: str, **train: object) -> TrainedNetwork:
    config = Config(name="small", train=replace(TrainConfig(), **train))  # type: ignore[arg-type]
    return TrainedNetwork(None, config, 1, Path(run))  # type: ignore[arg-type]


def test_folds_of_another_recipe_are_refused_and_seeds_and_threads_are_not_the_recipe() -> None:
    final = _trained("final")
    require_recipe(final, _trained("fold", seed=3, threads=2))
    with pytest.raises(ExportError, match=r"fold was trained with train.epochs 2, final with 50"):
        require_recipe(final, _trained("fold", epochs=2))


def test_a_release_needs_one_or_two_networks_of_each_kind() -> None:
    classifier, unet = (
        replace(_trained(kind), config=Config(model=ModelConfig(network=kind)))  # type: ignore[arg-type]
        for kind in ("classifier", "unet")
    )
    build._require_one_or_two([classifier], [unet, unet])
    with pytest.raises(ExportError, match="3 networks that score and 0 that outline"):
        build._require_one_or_two([classifier] * 3, [])


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
    request = build.ReleaseRequest(
        runs=runs, folds=runs, data=tmp_path, out=tmp_path / "release", name="x"
    )
    with pytest.raises(ExportError):
        build.build_release(request)
    assert list(tmp_path.iterdir()) == []
