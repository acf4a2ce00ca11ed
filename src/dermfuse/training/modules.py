"""One Lightning module per kind of network: what a step computes and what validation measures.

Every module measures ``validation_loss``, which the plateau rule watches, and ``rank``, by which
the best epoch is chosen: average precision for classes, the challenge's Jaccard for masks, the
mean of both for a joint network. With ``data.split = "all"`` there is neither: nothing is validated
on, and the last epoch is kept.
"""

import itertools
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

from dermfuse.config import Config, LossConfig
from dermfuse.data.loaders import PairRows, fit_back, pair_schedule, single_schedule
from dermfuse.errors import TrainingError
from dermfuse.models.classifier import Classifier, DiscriminantNetwork, JointNetwork, PairLogits
from dermfuse.predictions import metrics
from dermfuse.training import losses
from dermfuse.training.distributed import (
    Batch,
    Processes,
    as_the_first,
    gather_in_order,
    mean_over_processes,
    share_statistics,
)
from dermfuse.training.graphs import GraphedStep, settle_optimizer
from dermfuse.training.samples import Samples
from dermfuse.training.shares import Share, draw_share
from dermfuse.training.updates import (
    average_weights,
    count_plateaus,
    freeze,
    move_average,
    warm_cosine,
)

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
        self._kept = freeze(network, config.train)
        self.averaged = average_weights(network) if config.train.ema_decay else None
        self.trained_pass = self.plain_pass
        if config.train.compile:  # of a compiled module the weights would have other names
            self.trained_pass = torch.compile(self.plain_pass)
        self._graphed = GraphedStep(self._whole_step) if config.train.graph else None
        self.measured: Epoch = {}
        self._rates: list[float] = []  # each parameter group's first
        self._losses: list[Tensor] = []  # of the epoch's steps, on the device until it ends
        self._train_loss = math.nan
        self._outputs: list[tuple[Tensor, ...]] = []
        self._truth: Tensor | None = None

    @property
    def validated(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights if there is one."""
        return self.network if self.averaged is None else self.averaged.module

    @property
    def plain_pass(self) -> Callable[..., Any]:
        """What ``train.compile`` compiles: the pass through the network; validation takes none."""
        return self.network.forward

    @property
    def processes(self) -> Processes:
        """Where this process stands among those that train together."""
        if self._trainer is None:  # a module is also looked at alone
            return Processes()
        return Processes(self.trainer.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> "DataLoader[Any]":
        """Returns this epoch's shares, on the device; they depend on seed and epoch alone."""
        epoch = self.current_epoch
        return _one_by_one([self.share(batch, epoch) for batch in self.schedule(epoch)])

    def val_dataloader(self) -> "DataLoader[Any]":
        """Returns this process's share of the validation rows, in order, on the device."""
        rows = np.array_split(self.samples.validation_rows, self.processes.count)[
            self.processes.rank
        ]
        size = self.config.train.batch_size
        there = self._on_device(rows)
        return _one_by_one([there[first : first + size] for first in range(0, len(rows), size)])

    def share(self, batch: Batch, epoch: int = 0) -> Share:
        """Returns this process's share of a batch, on the device."""
        share = draw_share(batch, self.processes, self.config, epoch=epoch)
        return share.mapped(lambda part: part.to(self.device))

    def schedule(self, epoch: int) -> list[Any]:
        """Returns the batches of ``epoch``."""
        train = self.config.train
        rows = self.samples.train_rows
        return list(single_schedule(rows, train.batch_size, seed=train.seed, epoch=epoch))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, _: int) -> Any:  # noqa: ANN401
        """Leaves the rows where they are: on the device, as the images."""
        return batch

    def on_fit_start(self) -> None:
        """Moves the decoded images, the plan and the truth to the device the network is on."""
        samples = self.samples = self.samples.to(self.device)
        targets = class_targets(samples.labels, samples.taught, self.config.loss)
        self._truth = self._on_device(np.stack([targets, samples.labels.astype(np.float32)]))

    def on_train_start(self) -> None:
        """Prepares the optimiser, also that of a resumed run."""
        settle_optimizer(self._optimizer_in_use(), graph=self._graphed is not None)

    def on_train_epoch_start(self) -> None:
        """Draws the epoch's plan; keeps what of the backbone is frozen."""
        before, self.samples = self.samples, self.samples.at_epoch(self.current_epoch)
        if self._graphed is not None and self.samples is not before:
            self.samples = self.samples.in_place_of(before)
        for layer in self._kept:
            layer.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Seeds the dropout by seed, epoch and step, so that a resumed run drops alike."""
        seeds = np.random.SeedSequence([self.config.train.seed, self.current_epoch, batch_idx])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Moves the average of the weights, if there is one; ends an epoch's losses."""
        if self.averaged is not None:
            decay, updates = self.config.train.ema_decay, self.trainer.global_step - 1
            move_average(self.averaged, self.network, decay=decay, updates=updates)
        if self.trainer.is_last_batch:
            self._read_losses()

    def images(self, rows: Tensor) -> Tensor:
        """Returns augmented images (B, 3, S, S) in the layout convolutions run fastest in."""
        return in_channels_last(self.samples.source.images(rows))

    def shown(self, rows: Tensor) -> Tensor:
        """Returns images that are validated on, the batch filled up to the size of the others.

        What is answered about the first ``len(rows)`` of them counts; cuDNN plans for one size.
        """
        size = min(self.config.train.batch_size, len(self.samples.validation_rows))
        filled = rows.repeat(-(-size // len(rows)))[: max(size, len(rows))]
        return in_channels_last(self.samples.shown.images(filled))

    def truth(self, rows: Tensor) -> Tensor:
        """Returns what class heads learn for plan rows, and the labels, (2, B) float32.

        Both are the same unless labels are smoothed or a teacher has a say.
        """
        if self._truth is None:
            self.on_fit_start()
        return cast("Tensor", self._truth)[:, rows]

    def labels(self, rows: Tensor) -> Tensor:
        """Returns the labels of plan rows, (B,) int64."""
        return self.truth(rows)[1].long()

    def step_loss(self, share: Share) -> Tensor:
        """Returns the loss of one batch, or of this process's share of it."""
        raise NotImplementedError

    def measure(self, outputs: Sequence[Tensor]) -> Epoch:
        """Returns the validation metrics from the concatenated outputs of validation."""
        raise NotImplementedError

    def training_step(self, share: Share, _: int) -> Tensor | None:
        """Returns the loss of this process's share, weighted so that the mean is the batch's.

        A graphed step ends with the optimiser's and leaves no loss to differentiate.
        """
        if self._graphed is not None:
            self._losses.append(self._graphed(share, kind=self.samples.source.table.effects))
            return None
        loss = self.step_loss(share)
        if share.weight != 1:
            loss = loss * share.weight
        self._losses.append(loss.detach())
        return loss

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,  # noqa: ANN401 — Lightning's union
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Steps; a graph has the optimiser's step in it."""
        if self._graphed is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        elif optimizer_closure is not None:
            optimizer_closure()

    def _whole_step(self, share: Share) -> Tensor:
        """Takes a step, as Lightning would take it, and returns its loss."""
        optimizer = self._optimizer_in_use()
        with torch.autocast(self.device.type, enabled=False):  # Lightning's, around the step
            optimizer.zero_grad(set_to_none=True)
            with self.trainer.precision_plugin.forward_context():
                loss = self.step_loss(share)
            loss.backward()  # type: ignore[no-untyped-call]
            self.configure_gradient_clipping(optimizer, self.config.train.gradient_clip)
            optimizer.step()
        return loss.detach()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradient's norm; Lightning's own way refuses a fused optimiser."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def _read_losses(self) -> None:
        """Reads the losses of the epoch's steps, all at once: a look at one would stop a GPU.

        Raises:
            TrainingError: If one is not finite; all processes raise it then.
        """
        losses = mean_over_processes(torch.stack(self._losses), self.processes).cpu()
        self._losses = []
        odd = (~torch.isfinite(losses)).nonzero()[:, 0].tolist()
        if odd:
            found = f"the loss is {losses[odd[0]].item()}"
            raise _not_finite(found, self.current_epoch, f", step {odd[0] + 1}")
        self._train_loss = losses.mean().item()

    def _on_device(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def on_validation_epoch_start(self) -> None:
        """Forgets the outputs of the last validation."""
        self._outputs = []
        share_statistics(self.validated, self.processes)

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
        rate = float(self._optimizer_in_use().param_groups[0]["lr"])
        row = {"epoch": self.current_epoch + 1, "learning_rate": rate}
        return {**row, "train_loss": self._train_loss, **self.measured}

    def configure_optimizers(self) -> Any:  # noqa: ANN401 — Lightning's own union
        """Returns Adam (AdamW with ``weight_decay``) and the rule its learning rate follows.

        Paper:
            Adam 1e-4; halved when the validation loss has not fallen for 3 epochs
            (``follow_plateaus``).
        """
        train = self.config.train
        adam = torch.optim.AdamW if train.weight_decay else torch.optim.Adam
        optimizer = adam(
            self._parameter_groups(),
            lr=train.learning_rate,
            eps=1e-7,
            fused=True,
            capturable=train.graph,
        )
        self._rates = [group["lr"] for group in optimizer.param_groups]
        if train.schedule != "cosine":
            return optimizer
        steps = train.epochs * len(self.schedule(0))
        factor = partial(warm_cosine, steps=steps, warmup=train.warmup)
        cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

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
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def _optimizer_in_use(self) -> torch.optim.Optimizer:
        return cast("torch.optim.Optimizer", self.optimizers(use_pl_optimizer=False))

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Returns the backbone's parameters apart from new ones, and those that decay apart."""
        train, groups = self.config.train, []
        named = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        for decays, pretrained in itertools.product((True, False), (True, False)):
            parameters = [
                parameter
                for name, parameter in named
                if name.startswith("backbone.") == pretrained
                and (not train.weight_decay or parameter.ndim > 1) == decays
            ]
            factor = 1 if pretrained else train.new_layer_factor
            decay = train.weight_decay if decays else 0.0
            group = {"lr": train.learning_rate * factor, "weight_decay": decay}
            groups += [{"params": parameters, **group}] if parameters else []
        return groups


class ClassifierModule(TrainingModule):
    """Trains the baseline classifier on single images."""

    network: Classifier

    def step_loss(self, share: Share) -> Tensor:
        """Returns the class loss of a batch."""
        images, targets = self.images(share.rows), self.truth(share.rows)[0]
        if mixture := share.mixture:
            images, targets = mixture.images(images), mixture.values(targets)
        return self.class_loss(self.trained_pass(images), targets)

    def validation_step(self, batch: Tensor, _: int) -> None:
        """Keeps the logits (B, 2) and labels (B,); the head answers in float32, without ties."""
        network = cast("Classifier", self.validated)
        embedding = network.embed(self.shown(batch))[: len(batch)].float()
        with torch.autocast(self.device.type, enabled=False):
            logits = network.head(embedding)
        self._outputs.append((logits, self.labels(batch)))

    def measure(self, outputs: Sequence[Tensor]) -> Epoch:
        """Returns loss, average precision, AUC and accuracy."""
        logits, labels = (output.cpu() for output in outputs)
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

    def step_loss(self, share: Share) -> Tensor:
        """Returns the total loss; Method 1 sends each image through the backbone once."""
        images, (targets, labels) = self.images(share.rows), self.truth(share.rows)
        if mixture := share.mixture:
            images = mixture.images(images)
            targets, labels = mixture.values(targets), mixture.values(labels)
        embedding, partner = self.trained_pass(images), share.partner
        if partner is None:
            sides = [each.chunk(2) for each in (embedding, targets, labels)]
        else:
            sides = [(each, each[partner]) for each in (embedding, targets, labels)]
        logits = self.network.pair_logits(*sides[0])
        return self._total(logits, targets=sides[1], labels=sides[2])

    def validation_step(self, batch: Tensor, _: int) -> None:
        """Keeps the embeddings (B, E) and labels (B,)."""
        network = cast("DiscriminantNetwork", self.validated)
        embedding = network.embed(self.shown(batch))[: len(batch)].float()
        self._outputs.append((embedding, self.labels(batch)))

    def measure(self, outputs: Sequence[Tensor]) -> Epoch:
        """Returns the metrics of both heads; the better one ranks the epoch and is deployed."""
        embedding, labels = outputs
        network = cast("DiscriminantNetwork", self.validated)
        order = np.random.default_rng(self.config.train.seed).permutation(len(labels))
        partner = self._on_device(order)
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

    def step_loss(self, share: Share) -> Tensor:
        """Returns the mask loss of a batch."""
        images, masks = self.images_and_masks(share.rows)
        return self.mask_loss(self.trained_pass(images), masks)

    def images_and_masks(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns augmented images, and what is learnt of them: masks, and what teachers say."""
        distillation = self.config.loss.distillation
        images, masks = self.samples.source.images_and_masks(rows, distillation=distillation)
        return in_channels_last(images), masks

    def validation_step(self, batch: Tensor, _: int) -> None:
        """Keeps the loss and the counts of every image at its mask's own size."""
        mask_logits = self.validated(self.shown(batch))[: len(batch)].float()
        self._outputs.append(self.measure_masks(batch, mask_logits))

    def measure_masks(self, rows: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the loss of the batch, Jaccard and Dice of every image, each (B,) float64."""
        loss = self.mask_loss(mask_logits, self.samples.shown.masks(rows))
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


class JointModule(SegmentationModule):
    """Trains the joint network on images that have both a label and a mask.

    ``rank`` is the mean of average precision and Jaccard: an epoch is the best for both tasks
    together, and may be neither's own.
    """

    network: JointNetwork

    def step_loss(self, share: Share) -> Tensor:
        """Returns the joint loss of a batch."""
        images, masks = self.images_and_masks(share.rows)
        logits = self.trained_pass(images)
        return losses.joint_loss(
            self.class_loss(logits.class_logits, self.truth(share.rows)[0]),
            self.mask_loss(logits.mask_logits, masks),
            class_weight=self.config.loss.joint_class_weight,
        )

    def validation_step(self, batch: Tensor, _: int) -> None:
        """Keeps logits, labels, mask loss and overlaps; the class head answers in float32."""
        network = cast("JointNetwork", self.validated)
        embedding, mask_logits = network.embed_and_segment(self.shown(batch))
        with torch.autocast(self.device.type, enabled=False):
            class_logits = network.class_head(embedding[: len(batch)].float())
        masks = self.measure_masks(batch, mask_logits[: len(batch)].float())
        self._outputs.append((class_logits, self.labels(batch), *masks))

    def measure(self, outputs: Sequence[Tensor]) -> Epoch:
        """Returns the joint loss, the metrics of both tasks, and their rank."""
        class_logits, labels, *masks = (output.cpu() for output in outputs)
        classes = class_metrics(class_logits, labels)
        measured = {**classes, **super().measure(masks)}
        loss = losses.joint_loss(
            self.class_loss(class_logits, labels),
            torch.tensor(measured["validation_loss"]),
            class_weight=self.config.loss.joint_class_weight,
        ).item()
        rank = (measured["average_precision"] + measured["jaccard"]) / 2
        return {**measured, "validation_loss": loss, "rank": rank}


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


def class_metrics(logits: Tensor, labels: Tensor) -> Epoch:
    """Returns average precision, AUC and accuracy of logits (B, 2) beside labels (B,).

    All are nan where a logit is not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        return dict.fromkeys(("average_precision", "auc", "accuracy"), math.nan)
    scores = logits.double().softmax(1)[:, 1].numpy()
    truth = labels.numpy()
    return {
        "average_precision": metrics.average_precision(truth, scores),
        "auc": metrics.auc(truth, scores),
        "accuracy": float(((scores > 0.5) == (truth == 1)).mean()),
    }


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


def in_channels_last(images: Tensor) -> Tensor:
    """Returns images in the layout convolutions run fastest in."""
    return images.contiguous(memory_format=torch.channels_last)


def _one_by_one(batches: list[Any]) -> "DataLoader[Any]":
    return DataLoader(cast("Dataset[Any]", batches), batch_size=None)


def _not_finite(found: str, epoch: int, step: str = "") -> TrainingError:
    return TrainingError(
        f"{found} in epoch {epoch + 1}{step}",
        expected="a finite number",
        action="Lower train.learning_rate or set train.precision=float32",
    )
