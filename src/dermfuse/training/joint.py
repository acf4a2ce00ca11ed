"""The Lightning module of the joint network, which learns classes and masks at once."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from dermfuse import losses
from dermfuse.models.joint import JointNetwork
from dermfuse.training.modules import Epoch, SegmentationModule, class_metrics
from dermfuse.training.shares import Share


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
