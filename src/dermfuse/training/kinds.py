"""Which Lightning module trains each kind of network."""

from dermfuse.training.joint import JointModule
from dermfuse.training.modules import (
    ClassifierModule,
    PairModule,
    SegmentationModule,
    TrainingModule,
)

MODULES: dict[str, type[TrainingModule]] = {
    "classifier": ClassifierModule,
    "discriminant": PairModule,
    "unet": SegmentationModule,
    "unet_original": SegmentationModule,
    "joint": JointModule,
}
"""By ``model.network``."""
