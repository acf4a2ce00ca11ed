import zipfile
from pathlib import Path

import pytest
import torch

from dermfuse.config import Config, load_preset
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.folders import RunFolder, read_json
from dermfuse.models.backbones import build_backbone
from dermfuse.models.classifier import JointLogits, JointNetwork
from dermfuse.predictions.folder import read_predictions
from dermfuse.predictions.fusion import average
from dermfuse.predictions.metrics import auc
from dermfuse.training import predict, train
from dermfuse.training.modules import JointModule
from dermfuse.training.prediction import read_logits, submit
from dermfuse.training.samples import load_samples, select_lesions
from dermfuse.training.shares import Share

TINY = [
    "model.init=random",
    "data.input_size=32",
    "train.epochs=1",
    "train.batch_size=8",
    "augment.enabled=false",
    "train.precision=float32",
    "train.threads=1",
]


@pytest.fixture(scope="module")
def run(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "joint"
    train(load_preset("joint-mobilenetv1").override(TINY), data=drawn, run=run)
    return run


def test_both_tasks_are_validated_and_their_mean_ranks_the_epoch(run: Path) -> None:
    best = read_json(RunFolder(run).record)["validation"]
    assert {"average_precision", "auc", "accuracy", "jaccard", "dice"} <= set(best)
    header, row = (line.split(",") for line in RunFolder(run).metrics.read_text().split())
    values = dict(zip(header, map(float, row), strict=True))
    assert values["rank"] == pytest.approx((values["average_precision"] + values["jaccard"]) / 2)


def test_one_folder_holds_both_predictions_and_is_evaluated_for_both(
    run: Path, drawn: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = predict(run, data=drawn, split="test", out=out, probabilities=True, tta=True)
    predictions = read_predictions(out)
    assert report.task == predictions.manifest.task == "joint"
    assert predictions.scores is not None
    ids = predictions.scores.image_ids
    assert ids == tuple(predictions.masks) == tuple(predictions.probabilities)
    evaluation = evaluate(out, drawn, draws=10)
    assert evaluation.classification is not None
    assert evaluation.segmentation is not None
    assert evaluation.classification.image_count == evaluation.segmentation.image_count == 6

    plain = tmp_path / "plain"
    predict(run, data=drawn, split="test", out=plain, probabilities=True)
    assert average([out, plain], tmp_path / "mean").task == "joint"
    mean = read_predictions(tmp_path / "mean").score_by_id()
    parts = [folder.score_by_id() for folder in (predictions, read_predictions(plain))]
    assert mean[ids[0]] == pytest.approx((parts[0][ids[0]] + parts[1][ids[0]]) / 2)


def test_a_submission_holds_both(run: Path, drawn: Path, tmp_path: Path) -> None:
    submit(run, data=drawn, out=tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["masks.zip", "run.json", "scores.csv"]
    assert len(zipfile.ZipFile(tmp_path / "out" / "masks.zip").namelist()) == 6


class Undecided(torch.nn.Module):
    """Finds every class and every pixel as likely as not."""

    def forward(self, x: torch.Tensor) -> JointLogits:
        return JointLogits(torch.zeros(len(x), 2), torch.zeros(len(x), 1, 32, 32))


def _module(drawn: Path, *more: str, network: torch.nn.Module | None = None) -> JointModule:
    config = load_preset("joint-mobilenetv1").override([*TINY, *more])
    samples = load_samples(select_lesions(drawn, config), config)
    return JointModule(network or Undecided(), samples, config)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_the_loss_is_the_weighted_class_loss_and_the_mask_loss(drawn: Path, weight: float) -> None:
    module = _module(drawn, f"loss.joint_class_weight={weight}")
    rows = torch.arange(4)
    mask_logits = torch.zeros(4, 1, 32, 32)
    mask_loss = module.mask_loss(mask_logits, module.samples.source.masks(rows))
    loss = module.step_loss(Share(rows))
    assert loss.item() == pytest.approx(weight * 0.693147 + mask_loss.item(), rel=1e-5)


def test_the_measure_is_that_of_each_task(drawn: Path) -> None:
    module = _module(drawn, "loss.joint_class_weight=2")
    logits = torch.tensor([[0.0, 2.0], [0.0, -1.0], [0.0, 1.0]])
    labels = torch.tensor([1, 0, 0])
    masks = [torch.tensor(values).double() for values in ([0.5] * 3, [0.2, 0.4, 0.9], [1.0] * 3)]
    measured = module.measure([logits, labels, *masks])
    assert measured["jaccard"] == pytest.approx(0.5)
    assert measured["average_precision"] == 1.0
    assert measured["auc"] == auc(labels.numpy(), logits[:, 1].numpy())
    assert measured["rank"] == pytest.approx(0.75)
    losses = torch.nn.functional.cross_entropy(logits, labels).item()
    assert measured["validation_loss"] == pytest.approx(2 * losses + 0.5)


def test_with_averaged_weights_the_average_is_validated(drawn: Path) -> None:
    network = JointNetwork(build_backbone("mobilenet_v1")).eval()
    module = _module(drawn, "train.ema_decay=0.9", network=network)
    kept, rows = module.validated, module.samples.validation_rows[:2]
    assert isinstance(kept, JointNetwork)
    assert kept is not network
    torch.nn.init.zeros_(kept.class_head.weight)
    torch.nn.init.constant_(kept.head.bias, 50.0)  # every pixel is lesion
    with torch.inference_mode():
        kept.class_head.bias.copy_(torch.tensor([0.0, 5.0]))
        module.validation_step(torch.from_numpy(rows), 0)
    class_logits, labels, _, jaccard, _ = module._outputs[0]
    assert class_logits.tolist() == [[0.0, 5.0]] * 2
    assert labels.tolist() == module.samples.labels[rows].tolist()
    share_of_lesion = [module.samples.truth(row).mean() for row in rows.tolist()]
    assert jaccard.tolist() == pytest.approx(share_of_lesion)


def test_only_images_with_label_and_mask_are_learnt_from(drawn: Path, tmp_path: Path) -> None:
    for part in ("Part3_Training_Data", "Part1_Training_GroundTruth"):
        name = f"ISBI2016_ISIC_{part}"
        (tmp_path / name).mkdir()
        for path in (drawn / name).iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    table = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
    rows = (drawn / table).read_text().splitlines()
    unlabelled = rows.pop().split(",")[0]
    (tmp_path / table).write_text("\n".join(rows) + "\n")
    masks = sorted((tmp_path / "ISBI2016_ISIC_Part1_Training_GroundTruth").iterdir())
    masks[0].unlink()
    config = load_preset("joint-mobilenetv1").override(TINY)
    chosen = select_lesions(tmp_path, config)
    ids = {lesion.image_id for lesion in chosen.lesions}
    assert len(ids) == 28
    assert unlabelled not in ids
    assert [sentence.split(":")[0] for sentence in chosen.left_out] == [
        "1 left out (no mask)",
        "1 left out (no label)",
    ]


def test_the_plan_is_the_class_balanced_one(drawn: Path) -> None:
    joint, classes = (
        Config().override([*TINY, "augment.enabled=true", f"model.network={network}"])
        for network in ("joint", "classifier")
    )
    ours, theirs = (load_samples(select_lesions(drawn, c), c) for c in (joint, classes))
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert ours.source.has_masks


def test_joint_logits_become_both_probabilities() -> None:
    logits = JointLogits(torch.tensor([[0.0, 0.0]]), torch.zeros(1, 1, 2, 2))
    answer = read_logits(logits)
    assert answer.malignant is not None
    assert answer.lesion is not None
    assert answer.malignant.tolist() == [0.5]
    assert answer.lesion.tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
