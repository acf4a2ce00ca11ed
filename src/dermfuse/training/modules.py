"""One Lightning module per kind of network: what a step computes and what validation measures.

Every module measures ``validation_loss``, which the plateau rule watches, and ``rank``, by which
the best epoch is chosen: average precision for classes, the challenge's Jaccard for masks, the
mean of both for a joint network. With ``data.split = "all"`` there is neither: nothing is validated
on, and the last epoch is kept.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning import LightningModule
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dermfuse import losses, metrics
from dermfuse.config import Config, LossConfig
from dermfuse.data.loaders import PairRows, fit_back, pair_schedule, single_schedule
from dermfuse.errors import TrainingError
from dermfuse.models.classifier import Classifier
from dermfuse.models.discriminant import DiscriminantNetwork, PairLogits
from dermfuse.training.averaging import average_weights
from dermfuse.training.compilation import compile_pass
from dermfuse.training.distributed import (
    Processes,
    as_the_first,
    batch_length,
    gather_in_order,
    mean_over_processes,
    take_share,
)
from dermfuse.training.freezing import freeze
from dermfuse.training.mixing import Mixture, draw_mixture
from dermfuse.training.plateau import count_plateaus
from dermfuse.training.samples import Samples

Epoch = dict[str, float]


class TrainingModule(LightningModule):
    """What all kinds share: data, optimiser, plateau rule, the check of the loss.

    Args:
        network: What is trained.
        samples: What it is trained on.
        config: How.
    """

    def __init__(self, network: nn.Module, samples: Samples, config: Config) -> None:
        super().__init__()
        self.network = network
        self.samples = samples
        self.config = config
        self.class_loss = losses.choose_class_loss(config.loss)
        self.mask_loss = losses.choose_mask_loss(config.loss)
        decay = config.train.ema_decay
        self._kept = freeze(network, config.train)
        self.averaged = average_weights(network, decay) if decay else None
        self._compiled_pass = compile_pass(self.plain_pass, config.train)
        self.measured: Epoch = {}
        self._rates: list[float] = []  # each parameter group's first
        self._losses: list[Tensor] = []
        self._outputs: list[tuple[Tensor, ...]] = []

    @property
    def validated(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights if there is one."""
        return self.network if self.averaged is None else self.averaged.module

    @property
    def plain_pass(self) -> Callable[..., Any]:
        """What ``train.compile`` compiles: the pass through the network; validation takes none."""
        return self.network.forward

    @property
    def trained_pass(self) -> Callable[..., Any]:
        """The pass of a training step."""
        return self._compiled_pass or self.plain_pass

    @property
    def processes(self) -> Processes:
        """Where this process stands among those that train together."""
        return Processes(self.trainer.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> "DataLoader[Any]":
        """Returns this epoch's batches of plan rows; they depend on seed and epoch alone."""
        return _one_by_one(self.schedule(self.current_epoch))

    def val_dataloader(self) -> "DataLoader[Any]":
        """Returns this process's share of the validation rows, in order."""
        rows = np.array_split(self.samples.validation_rows, self.processes.count)[
            self.processes.rank
        ]
        size = self.config.train.batch_size
        return _one_by_one(
            [torch.from_numpy(rows[i : i + size]) for i in range(0, len(rows), size)]
        )

    def schedule(self, epoch: int) -> list[Any]:
        """Returns the batches of ``epoch``."""
        train = self.config.train
        rows = self.samples.train_rows
        return list(single_schedule(rows, train.batch_size, seed=train.seed, epoch=epoch))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, _: int) -> Any:  # noqa: ANN401
        """Leaves the rows on the CPU: the images are on the device already."""
        return batch

    def on_fit_start(self) -> None:
        """Moves the decoded images to the device the network is on."""
        self.samples = self.samples.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Draws the epoch's plan; keeps what of the backbone is frozen."""
        self.samples = self.samples.at_epoch(self.current_epoch)
        for layer in self._kept:
            layer.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Seeds the dropout by seed, epoch and step, so that a resumed run drops alike."""
        seeds = np.random.SeedSequence([self.config.train.seed, self.current_epoch, batch_idx])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Moves the average of the weights, if there is one."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def images(self, rows: Tensor) -> Tensor:
        """Returns augmented images (B, 3, S, S) in the layout convolutions run fastest in."""
        return self.samples.source.images(rows).contiguous(memory_format=torch.channels_last)

    def labels(self, rows: Tensor) -> Tensor:
        """Returns the labels of plan rows, (B,) int64 on the device."""
        return torch.from_numpy(self.samples.labels[rows.numpy()]).to(self.device)

    def targets(self, rows: Tensor) -> Tensor:
        """Returns what the class heads learn for plan rows, (B,) float32 on the device.

        It is the label unless labels are smoothed or a teacher has a say.
        """
        chosen, taught = rows.numpy(), self.samples.taught
        targets = class_targets(
            self.samples.labels[chosen],
            None if taught is None else taught[chosen],
            self.config.loss,
        )
        return torch.from_numpy(targets).to(self.device)

    def mixture(self, rows: Tensor) -> Mixture | None:
        """Returns how the images of a batch are blended; it depends on the batch alone."""
        seeds = [self.config.train.seed, self.current_epoch, *rows[:4].tolist()]
        return draw_mixture(len(rows), self.config.augment, np.random.default_rng(seeds))

    def step_loss(self, batch: Any) -> Tensor:  # noqa: ANN401 — each module has its own batch
        """Returns the loss of one batch."""
        raise NotImplementedError

    def measure(self, outputs: Sequence[Tensor]) -> Epoch:
        """Returns the validation metrics from the concatenated outputs of validation."""
        raise NotImplementedError

    def training_step(self, batch: Any, index: int) -> Tensor:  # noqa: ANN401
        """Returns the loss of this process's share, weighted so that the mean is the batch's.

        Raises:
            TrainingError: If the batch's loss is not finite; all processes raise it then.
        """
        share = take_share(batch, self.processes)
        weight = self.processes.count * batch_length(share) / batch_length(batch)
        loss = self.step_loss(share) * weight
        whole = mean_over_processes(loss.detach(), self.processes)
        if not torch.isfinite(whole):
            step = f", step {index + 1}"
            raise _not_finite(f"the loss is {whole.item()}", self.current_epoch, step)
        self._losses.append(whole)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forgets the outputs of the last validation."""
        self._outputs = []

    def on_validation_epoch_end(self) -> None:
        """Measures.

        Raises:
            TrainingError: An answer or a measure is not finite; all processes raise it then.
        """
        outputs = [torch.cat(parts) for parts in zip(*self._outputs, strict=True)]
        gathered = gather_in_order(outputs, self.processes)
        if not all(bool(torch.isfinite(part).all()) for part in gathered):
            raise _not_finite(
                "an answer of the network in validation is not finite", self.current_epoch
            )
        self.measured = as_the_first(self.measure(gathered), self.processes)
        for name, value in self.measured.items():
            if not math.isfinite(value):
                raise _not_finite(f"{name.replace('_', ' ')} is {value}", self.current_epoch)

    def epoch_row(self) -> Epoch:
        """Returns the row of ``metrics.csv`` for the epoch that ends, and starts a new one."""
        train_loss = torch.stack(self._losses).mean().item() if self._losses else math.nan
        self._losses = []
        rate = self._optimizer_in_use().param_groups[0]["lr"]
        row = {"epoch": self.current_epoch + 1, "learning_rate": rate, "train_loss": train_loss}
        return {**row, **self.measured}

    def configure_optimizers(self) -> Any:  # noqa: ANN401 — Lightning's own union
        """Returns Adam (AdamW with ``weight_decay``) and the rule its learning rate follows.

        Paper:
            Adam 1e-4; halved when the validation loss has not fallen for 3 epochs
            (``follow_plateaus``).
        """
        train = self.config.train
        optimizer = self._optimizer()
        self._rates = [group["lr"] for group in optimizer.param_groups]
        if train.schedule == "cosine":
            steps = train.epochs * len(self.schedule(0))
            cosine = torch.optim.lr_scheduler.LambdaLR(
                optimizer, partial(warm_cosine, steps=steps, warmup=train.warmup)
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": cosine, "interval": "step"},
            }
        return optimizer

    def follow_plateaus(self, epochs: Sequence[Epoch]) -> None:
        """Sets the learning rates of the epoch that begins, under the plateau rule.

        A scheduler of PyTorch's would step after the training state is saved, and a resumed run
        would miss that step.

        Args:
            epochs: The rows of all epochs before.
        """
        train = self.config.train
        if train.schedule != "plateau":
            return
        losses = [row["validation_loss"] for row in epochs]
        factor = train.plateau_factor ** count_plateaus(losses, patience=train.plateau_patience)
        for group, rate in zip(self._optimizer_in_use().param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _optimizer_in_use(self) -> torch.optim.Optimizer:
        return cast("torch.optim.Optimizer", self.optimizers(use_pl_optimizer=False))

    def _optimizer(self) -> torch.optim.Optimizer:
        train = self.config.train
        adam = torch.optim.AdamW if train.weight_decay else torch.optim.Adam
        return adam(self._parameter_groups(), lr=train.learning_rate, eps=1e-7)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        train = self.config.train
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {
            (pretrained, decays): [] for decays in (True, False) for pretrained in (True, False)
        }
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                decays = not train.weight_decay or parameter.ndim > 1
                groups[name.startswith("backbone."), decays].append(parameter)
        rate = train.learning_rate
        return [
            {
                "params": parameters,
                "lr": rate if pretrained else rate * train.new_layer_factor,
                "weight_decay": train.weight_decay if decays else 0.0,
            }
            for (pretrained, decays), parameters in groups.items()
            if parameters
        ]


def class_targets(
    labels: NDArray[np.int64], taught: NDArray[np.float32] | None, config: LossConfig
) -> NDArray[np.float32]:
    """Returns what the class heads learn, (n,) in [0, 1].

    Args:
        labels: 0 benign, 1 malignant, (n,); moved towards one half by ``label_smoothing``.
        taught: What the teachers say, (n,), and weigh by ``distillation``; None without teachers.
        config: Both shares.

    Example:
        >>> smooth = LossConfig(label_smoothing=0.2, distillation=0.5)
        >>> class_targets(np.array([0, 1]), np.array([0.5, 0.5], np.float32), smooth).round(2)
        array([0.3, 0.7], dtype=float32)
    """
    smoothing, weight = config.label_smoothing, config.distillation
    targets = labels * (1 - smoothing) + smoothing / 2
    if taught is not None:
        targets = (1 - weight) * targets + weight * taught
    return targets.astype(np.float32)


def warm_cosine(step: int, *, steps: int, warmup: float = 0.05) -> float:
    """Returns the factor on the learning rate: up over a share of ``steps``, then down to 0.

    Example:
        >>> [round(warm_cosine(step, steps=100), 2) for step in (0, 4, 50, 100)]
        [0.2, 1.0, 0.5, 0.0]
    """
    warm = max(1, int(steps * warmup))
    return min(1.0, (step + 1) / warm) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2


class ClassifierModule(TrainingModule):
    """Trains the baseline classifier on single images."""

    network: Classifier

    def step_loss(self, batch: Tensor) -> Tensor:
        """Returns the class loss of a batch of rows."""
        images, targets = self.images(batch), self.targets(batch)
        if mixture := self.mixture(batch):
            images, targets = mixture.images(images), mixture.values(targets)
        return self.class_loss(self.trained_pass(images), targets)

    def validation_step(self, batch: Tensor, _: int) -> None:
        """Keeps the logits (B, 2) and labels (B,); the head answers in float32, without ties."""
        network = cast("Classifier", self.validated)
        embedding = network.embed(self.images(batch)).float()
        with torch.autocast(self.device.type, enabled=False):
            logits = network.head(embedding)
        self._outputs.append((logits.cpu(), self.labels(batch).cpu()))

    def measure(self, outputs: Sequence[Tensor]) -> Epoch:
        """Returns loss, average precision, AUC and accuracy."""
        logits, labels = outputs
        measured = class_metrics(logits, labels)
        loss = self.class_loss(logits, labels).item()
        return {"validation_loss": loss, **measured, "rank": measured["average_precision"]}


class PairModule(TrainingModule):
    """Trains the discriminant network on pairs (Fig. 2, Methods 1 and 2)."""

    network: DiscriminantNetwork

    @property
    def plain_pass(self) -> Callable[..., Any]:
        """The pass to the embedding: all but the heads."""
        return self.network.embed

    def schedule(self, epoch: int) -> list[PairRows]:
        """Returns the pairs of ``epoch``."""
        train, samples = self.config.train, self.samples
        rows, labels = samples.train_rows, samples.labels
        return list(pair_schedule(rows, labels, train.batch_size, seed=train.seed, epoch=epoch))

    def step_loss(self, batch: PairRows) -> Tensor:
        """Returns the total loss; Method 1 sends each image through the backbone once."""
        rows = batch.a if batch.partner is not None else torch.cat([batch.a, batch.b])
        images, targets, labels = self.images(rows), self.targets(rows), self.labels(rows).float()
        if mixture := self.mixture(rows):
            images = mixture.images(images)
            targets, labels = mixture.values(targets), mixture.values(labels)
        embedding = self.trained_pass(images)
        if batch.partner is None:
            sides = [each.chunk(2) for each in (embedding, targets, labels)]
        else:
            partner = batch.partner.to(self.device)
            sides = [(each, each[partner]) for each in (embedding, targets, labels)]
        logits = self.network.pair_logits(*sides[0])
        return self._total(logits, targets=sides[1], labels=sides[2])

    def validation_step(self, batch: Tensor, _: int) -> None:
        """Keeps the embeddings (B, E) and labels (B,)."""
        network = cast("DiscriminantNetwork", self.validated)
        self._outputs.append((network.embed(self.images(batch)).float(), self.labels(batch)))

    def measure(self, outputs: Sequence[Tensor]) -> Epoch:
        """Returns the metrics of both heads; the better one ranks the epoch and is deployed."""
        embedding, labels = outputs
        network = cast("DiscriminantNetwork", self.validated)
        order = np.random.default_rng(self.config.train.seed).permutation(len(labels))
        partner = torch.from_numpy(order).to(self.device)
        logits = network.pair_logits(embedding, embedding[partner])
        sides = (labels.float(), labels[partner].float())
        measured = {"validation_loss": self._total(logits, targets=sides, labels=sides).item()}
        for name, head in (("a", network.head_a), ("b", network.head_b)):
            values = class_metrics(head(embedding).float().cpu(), labels.cpu())
            measured |= {f"{key}_{name}": value for key, value in values.items()}
        best = deployed_head(measured)
        for key in ("average_precision", "auc", "accuracy"):
            measured[key] = measured[f"{key}_{best}"]
        return {**measured, "rank": measured["average_precision"]}

    def _total(
        self, logits: PairLogits, *, targets: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> Tensor:
        """Returns the total loss; ``labels`` say whether a pair is of one class, also in part."""
        same_class = labels[0] * labels[1] + (1 - labels[0]) * (1 - labels[1])
        return losses.total_loss(
            self.class_loss(logits.class_a, targets[0]),
            self.class_loss(logits.class_b, targets[1]),
            losses.discriminant_loss(logits.discriminant, same_class),
            weights=self.config.loss.weights,
        )


class SegmentationModule(TrainingModule):
    """Trains a U-Net on images and masks."""

    def step_loss(self, batch: Tensor) -> Tensor:
        """Returns the mask loss of a batch of rows."""
        logits = self.trained_pass(self.images(batch))
        return self.mask_loss(logits, self.mask_targets(batch))

    def mask_targets(self, rows: Tensor) -> Tensor:
        """Returns what is learnt for plan rows, (B, 1, S, S): masks, and what teachers say."""
        distillation = self.config.loss.distillation
        return self.samples.source.mask_targets(rows, distillation=distillation)

    def validation_step(self, batch: Tensor, _: int) -> None:
        """Keeps the loss and the counts of every image at its mask's own size."""
        mask_logits = self.validated(self.images(batch)).float()
        self._outputs.append(self.measure_masks(batch, mask_logits))

    def measure_masks(self, rows: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the loss of the batch, Jaccard and Dice of every image, each (B,) float64."""
        loss = self.mask_loss(mask_logits, self.samples.source.masks(rows))
        probability = mask_logits.sigmoid()[:, 0].cpu().numpy()
        jaccard, dice = zip(*self._overlaps(rows, probability), strict=True)
        size = torch.full((len(rows),), loss.item(), dtype=torch.float64)
        return size, torch.tensor(jaccard).double(), torch.tensor(dice).double()

    def measure(self, outputs: Sequence[Tensor]) -> Epoch:
        """Returns loss, Jaccard and Dice, means over the images."""
        loss, jaccard, dice = (values.mean().item() for values in outputs)
        return {"validation_loss": loss, "jaccard": jaccard, "dice": dice, "rank": jaccard}

    def _overlaps(
        self, rows: Tensor, probability: NDArray[np.float32]
    ) -> Iterable[tuple[float, float]]:
        for row, small in zip(rows.tolist(), probability, strict=True):
            truth = self.samples.truth(row)
            height, width = truth.shape
            predicted = fit_back(small, height, width, self.config.data.fit) >= 0.5
            counts = metrics.count(predicted, truth)
            yield metrics.jaccard(counts), metrics.dice(counts)


def _not_finite(found: str, epoch: int, step: str = "") -> TrainingError:
    return TrainingError(
        f"{found} in epoch {epoch + 1}{step}",
        expected="a finite number",
        action="Lower train.learning_rate or set train.precision=float32",
    )


def deployed_head(measured: Epoch) -> Literal["a", "b"]:
    """Returns the class head with the better validation AP; AUC decides a tie, then stream a.

    Where nothing was validated on it is stream a: both learn from the same images with the same
    loss, and a mean of their weights would be a third network that was never trained.
    """
    if "average_precision_a" not in measured:
        return "a"
    rank_a, rank_b = (
        (measured[f"average_precision_{head}"], measured[f"auc_{head}"]) for head in "ab"
    )
    return "b" if rank_b > rank_a else "a"


def _one_by_one(batches: list[Any]) -> "DataLoader[Any]":
    return DataLoader(cast("Dataset[Any]", batches), batch_size=None)


def class_metrics(logits: Tensor, labels: Tensor) -> Epoch:
    """Returns average precision, AUC and accuracy of logits (B, 2) beside labels (B,)."""
    scores = logits.double().softmax(1)[:, 1].numpy()
    truth = labels.numpy()
    return {
        "average_precision": metrics.average_precision(truth, scores),
        "auc": metrics.auc(truth, scores),
        "accuracy": float(((scores > 0.5) == (truth == 1)).mean()),
    }
