"""The configuration of a run: frozen, checked when it is built, written beside every result.

A preset is a TOML file with the same five tables; what it leaves out has the paper's value.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w

from dermfuse.errors import ConfigError
from dermfuse.records import build_record, packaged_names, read_packaged, read_toml

UNNAMED = "custom"
"""The name of a configuration that was given none."""

Task = Literal["classification", "segmentation", "joint"]
"""What is learnt and predicted: classes, masks, or both at once."""

_KEPT = "ImageNet weights, which can be kept"
_CLASHES: tuple[tuple[str, object, str, object, str, str], ...] = (
    ("data.outer_folds", None, "data.folds", 0,
     "folds of the images that are left, so that each of them can be taught", "data.folds=2"),
    ("data.folds", None, "data.split", ("paper", "all"),
     'folds = 0, or split = "source"', "data.folds=0"),
    ("augment.fresh", None, "augment.enabled", False,
     "augmentation, whose transforms can be drawn anew", "augment.enabled=true"),
    ("augment.policy", "label_blind", "augment.enabled", False,
     "augmentation, whose transforms can be drawn anew", "augment.enabled=true"),
    ("augment.fresh", None, "augment.policy", "label_blind",
     "one of them, for label-blind rows are drawn anew in every epoch", "augment.fresh=false"),
    ("augment.mixup", None, "augment.cutmix", None,
     "one of them above 0", "one of them to 0"),
    ("augment.mixup", None, "model.network", ("unet", "unet_original", "joint"),
     "0, for masks cannot be mixed", "augment.mixup=0"),
    ("augment.cutmix", None, "model.network", ("unet", "unet_original", "joint"),
     "0, for masks cannot be mixed", "augment.cutmix=0"),
    ("augment.policy", "label_blind", "data.split", "paper",
     "the paper's plan, whose rows that split divides",
     "data.split=source or augment.policy=paper"),
    ("model.dropout", None, "model.network", ("unet", "unet_original"),
     "0, for there is no class head to drop before", "model.dropout=0"),
    ("train.batch_norm", "frozen", "model.init", "random",
     _KEPT, "train.batch_norm=batch or model.init=imagenet"),
    ("train.backbone", "frozen", "model.init", "random",
     _KEPT, "train.backbone=trained or model.init=imagenet"),
    ("train.frozen_stages", None, "model.init", "random",
     _KEPT, "train.frozen_stages=0 or model.init=imagenet"),
    ("train.graph", None, "train.compile", None,
     "one of them", "train.compile=false or train.graph=false"),
    ("train.minimum_learning_rate", None, "train.schedule", "cosine",
     "0, for the cosine ends by itself",
     "train.minimum_learning_rate=0 or train.schedule=plateau"),
    ("train.schedule", "plateau", "data.split", "all",
     '"cosine", for without validation images no loss can reach a plateau',
     "train.schedule=cosine or data.split=source"),
    ("train.early_stop_patience", None, "train.keep", "last",
     "0, for whoever stops early keeps the best epoch",
     "train.early_stop_patience=0 or train.keep=best"),
    ("train.early_stop_patience", None, "data.split", "all",
     "0, for without validation images there is nothing to stop by",
     "train.early_stop_patience=0 or data.split=source"),
)  # fmt: skip
"""What two settings may not be at once (None: whatever is not 0 or false; a tuple: one of them),
what is expected of the first, and what to set."""


def has_scores(task: Task) -> bool:
    """Returns whether a task answers how likely an image is malignant."""
    return task != "segmentation"


def has_masks(task: Task) -> bool:
    """Returns whether a task outlines the lesion."""
    return task != "classification"


def _number(default: float, low: float, high: float) -> Any:  # noqa: ANN401 — an int or a float
    """Returns a field whose value lies from ``low`` to ``high``."""
    return field(default=default, metadata={"range": (low, high)})


class _Table:
    """A table of the configuration, whose numbers are checked when it is built."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Refuses numbers out of range and values of one table that contradict each other."""
        table = type(self).__name__.removesuffix("Config").lower()
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            low, high = each.metadata.get("range", (0, 0))
            if each.metadata and not low <= value <= high:
                raise ConfigError(
                    f"{table}.{each.name} is {value}", expected=f"a value from {low} to {high}"
                )
        self._check()

    def _check(self) -> None:
        """Refuses what no range says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig(_Table):
    """Which images are trained on, and at which size.

    Attributes:
        split: ``source`` splits by source image, stratified by label and with all images of a
            lesion on one side, and augments the training side only; ``paper`` splits the
            augmented samples, as the paper does, so that copies of one lesion stand on both
            sides; ``all`` trains on every image and validates on none, for a network that ships:
            the weights of the last epoch are kept.
        validation_fraction: Share that is validated on when ``folds`` is 0; of no effect where
            ``split`` is ``all``.
        folds: 0 for one hold-out split, else the number of cross-validation folds.
        fold: Which fold is validated on, from 0.
        outer_folds: 0, or the ``folds`` of another run: what that run holds back is left out
            here, so that this run can teach it (nested cross-validation).
        outer_fold: The ``fold`` of that run.
        exclude_test_duplicates: Leaves out the twenty training images that show a lesion of the
            test set, and every file that is also a test image; only the paper's own protocol
            keeps them.
        input_size: Side of the square the network sees, in pixels, a multiple of 32.
        fit: ``squeeze`` squeezes the whole frame to the square, as in the paper; ``letterbox``
            keeps its aspect and fills the square with the frame's reflection.
    """

    split: Literal["source", "paper", "all"] = "source"
    validation_fraction: float = _number(0.2, 0.01, 0.9)
    folds: int = 0
    fold: int = 0
    outer_folds: int = 0
    outer_fold: int = 0
    exclude_test_duplicates: bool = True
    input_size: int = _number(224, 32, 2048)
    fit: Literal["squeeze", "letterbox"] = "squeeze"

    def _check(self) -> None:
        if self.input_size % 32:
            raise ConfigError(
                f"data.input_size is {self.input_size}",
                expected="a multiple of 32",
                action=f"Set it to {max(32, round(self.input_size / 32) * 32)}",
            )
        for which, none in (("", "hold-out"), ("outer_", "none")):
            folds, fold = getattr(self, f"{which}folds"), getattr(self, f"{which}fold")
            if folds == 1 or folds < 0:
                raise ConfigError(
                    f"data.{which}folds is {folds}", expected=f"0 ({none}) or 2 or more"
                )
            if not 0 <= fold < max(folds, 1):
                raise ConfigError(
                    f"data.{which}fold is {fold} with data.{which}folds {folds}",
                    expected="a fold from 0 to folds - 1",
                )

    @property
    def validates(self) -> bool:
        """Whether some images are held out, to choose an epoch by and to measure it on."""
        return self.split != "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig(_Table):
    """The augmentation plan (paper, section III-A-1; and one that cannot tell the label).

    Attributes:
        enabled: Off trains on the originals alone (Tables IV and IX, "without").
        policy: ``paper`` is the paper's plan, in which every image stands once as it is, so that
            a transformed row is more often malignant; ``label_blind`` draws every row of every
            epoch from one distribution for both classes.
        fresh: Draws the paper's transforms anew in every epoch, for the same samples of the same
            images; the paper's are made once. ``label_blind`` always does.
        benign_copies: Samples per benign image, the original included (727 x 3 = 2,181).
        malignant_copies: Samples per malignant image, the original included (173 x 13 = 2,249).
        segmentation_draws: Samples drawn on top of one per image for masks (900 + 6,000).
        minimum_crop: Smallest side of a centre crop, as a fraction of the frame.
        brightness: Largest change of brightness, as a fraction.
        maximum_occlusion: Largest side of an occluding box, as a fraction of the frame.
        maximum_crop: Largest side of the window, above 1 reflected at the border. This and what
            follows is for ``label_blind`` alone.
        angle: Largest turn beside the quarter turns, in degrees.
        stretch: Largest change of width beside height, as a fraction.
        shift: Largest shift, as a fraction of the frame.
        contrast: Largest change of contrast, as a fraction.
        saturation: Largest change of saturation, as a fraction.
        hue: Largest turn of the colours, as a fraction of the circle.
        blur: Largest standard deviation of a Gaussian blur, as a fraction of the side.
        noise: Largest standard deviation of noise, for images in [0, 1].
        resolution: Largest factor by which an image is reduced and enlarged again.
        minimum_quality: Lowest quality of a JPEG-like quantisation.
        mixup: Parameter of the beta distribution that two images and their labels are mixed by;
            0 mixes none. Classes alone.
        cutmix: The same for a box of one image that replaces that of another; not beside mixup.
    """

    enabled: bool = True
    policy: Literal["paper", "label_blind"] = "paper"
    fresh: bool = False
    benign_copies: int = _number(3, 1, 1000)
    malignant_copies: int = _number(13, 1, 1000)
    segmentation_draws: int = _number(6000, 0, 10_000_000)
    minimum_crop: float = _number(0.8, 0.1, 1.0)
    brightness: float = _number(0.2, 0.0, 0.9)
    maximum_occlusion: float = _number(0.25, 0.0, 0.9)
    maximum_crop: float = _number(1.15, 1.0, 2.0)
    angle: float = _number(180.0, 0.0, 180.0)
    stretch: float = _number(0.1, 0.0, 0.9)
    shift: float = _number(0.08, 0.0, 0.5)
    contrast: float = _number(0.2, 0.0, 0.9)
    saturation: float = _number(0.25, 0.0, 0.9)
    hue: float = _number(0.02, 0.0, 0.5)
    blur: float = _number(0.008, 0.0, 0.05)
    noise: float = _number(0.03, 0.0, 0.5)
    resolution: float = _number(2.5, 1.0, 8.0)
    minimum_quality: int = _number(30, 1, 100)
    mixup: float = _number(0.0, 0.0, 10.0)
    cutmix: float = _number(0.0, 0.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig(_Table):
    """Which network is trained, and from which weights.

    Attributes:
        network: ``classifier`` (one image), ``discriminant`` (pairs; Fig. 2), ``unet`` (Fig. 3),
            ``unet_original``, or ``joint`` (class and mask at once; not in the paper).
        backbone: A name of ``dermfuse.models.backbones``; the original U-Net has none (empty).
        init: ``imagenet`` weights, or ``random`` if asked for.
        dropout: Share of the embedding that is dropped before a class head while training.
    """

    network: Literal["classifier", "discriminant", "unet", "unet_original", "joint"] = "classifier"
    backbone: str = "mobilenet_v1"
    init: Literal["imagenet", "random"] = "imagenet"
    dropout: float = _number(0.0, 0.0, 0.9)

    def _check(self) -> None:
        is_original = self.network == "unet_original"
        if is_original != (self.backbone == ""):
            raise ConfigError(
                f'model.network "{self.network}" with model.backbone "{self.backbone}"',
                expected="a backbone for every network but unet_original, which has none",
            )
        if is_original and self.init != "random":
            raise ConfigError(
                "the original U-Net has no ImageNet weights",
                expected='model.init = "random"',
                action="Set model.init=random",
            )

    @property
    def task(self) -> Task:
        """What the network answers: a class, a mask, or both."""
        if self.network == "joint":
            return "joint"
        return "segmentation" if self.network.startswith("unet") else "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig(_Table):
    """Which losses are added up (equations 2 to 5 and 6 to 11).

    Attributes:
        class_loss: The class terms; the discriminant term stays cross-entropy.
        focal_alpha: alpha of the focal class loss.
        focal_gamma: gamma of the focal class loss.
        class_weight_a: A of the total loss.
        class_weight_b: B of the total loss.
        discriminant_weight: C of the total loss.
        mask_loss: Dice + binary cross-entropy, or focal.
        mask_focal_alpha: alpha of the focal mask loss.
        mask_focal_gamma: gamma of the focal mask loss.
        joint_class_weight: Weight of the joint network's class loss beside its mask loss.
        label_smoothing: Share of the class target that is spread over both classes.
        distillation: Weight of what ``train.teachers`` say in the target, beside the truth.
    """

    class_loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_alpha: float = _number(0.25, 0.0, 1.0)
    focal_gamma: float = _number(0.75, 0.0, 10.0)
    class_weight_a: float = _number(1.0, 0.0, 1000.0)
    class_weight_b: float = _number(1.0, 0.0, 1000.0)
    discriminant_weight: float = _number(0.5, 0.0, 1000.0)
    mask_loss: Literal["dice_bce", "focal"] = "dice_bce"
    mask_focal_alpha: float = _number(0.75, 0.0, 1.0)
    mask_focal_gamma: float = _number(1.25, 0.0, 10.0)
    joint_class_weight: float = _number(1.0, 0.0, 1000.0)
    label_smoothing: float = _number(0.0, 0.0, 0.9)
    distillation: float = _number(0.7, 0.0, 1.0)

    @property
    def weights(self) -> tuple[float, float, float]:
        """A, B and C of the total loss."""
        return self.class_weight_a, self.class_weight_b, self.discriminant_weight


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(_Table):
    """How the network is trained (paper, sections III-A-2 and III-B-2).

    Attributes:
        epochs: Passes over the training samples.
        batch_size: Samples per step; a pair network sees this many pairs.
        learning_rate: The rate of Adam at the start.
        weight_decay: Decoupled from the gradient (AdamW), on weights alone, not on biases and
            BatchNorm; 0 is Adam, as in the paper.
        gradient_clip: Largest norm of a step's gradient; 0 leaves it.
        new_layer_factor: Learning rate of the layers that start from random weights (heads,
            decoder) beside that of the backbone; the paper trains all layers at one rate.
        schedule: ``plateau`` is the paper's rule; ``cosine`` warms up and falls to 0 at the
            last step, for runs of few epochs.
        warmup: Share of the steps over which the cosine's rate rises.
        batch_norm: ``batch`` normalises the backbone by each batch, as in the paper; ``frozen``
            by the statistics of its ImageNet weights, which few images then cannot shift.
        backbone: ``trained`` moves all layers, as in the paper; ``frozen`` leaves the backbone as
            its ImageNet weights have it and trains what stands on it.
        frozen_stages: How many of the backbone's five resolutions, the finest first, stay as the
            ImageNet weights have them, BatchNorm statistics included; 0 moves all, as in the
            paper. The finest cost most time and hold what is least about lesions.
        ema_decay: Decay per step of the moving average of the weights; 0 keeps none. The
            average is what is validated and kept; the training continues with the weights
            themselves.
        plateau_factor: What the learning rate is multiplied by on a plateau.
        plateau_patience: Epochs the validation loss may fail to fall before that.
        minimum_learning_rate: A plateau run stops once its rate is below this; 0 never does.
        early_stop_patience: Epochs the validation metric may fail to rise; 0 never stops early.
        keep: Whose weights are kept: those of the epoch that validated ``best``, as in the paper,
            or of the ``last``, so that what is measured on the validation images was not chosen
            by them.
        teachers: Run folders or releases whose answers are part of the target
            (``loss.distillation``). An image is taught only by those that held it back.
        seed: Seeds the split, the plan, the weights and the order of samples.
        precision: ``auto`` is bfloat16 autocast where the device multiplies it in hardware.
        device: ``auto`` is CUDA where there is one, else the CPU.
        threads: CPU threads; 0 leaves PyTorch's choice.
        compile: Compiles the forward pass of a training step with ``torch.compile``; the first
            steps are slow, and results differ in rounding.
        graph: Takes the whole training step as one CUDA graph, for networks so small that the
            launching of kernels bounds them; one CUDA device alone. Not yet measured.
    """

    epochs: int = _number(50, 1, 100_000)
    batch_size: int = _number(32, 2, 65_536)
    learning_rate: float = _number(1e-4, 1e-9, 10.0)
    weight_decay: float = _number(0.0, 0.0, 10.0)
    gradient_clip: float = _number(0.0, 0.0, 1e6)
    new_layer_factor: float = _number(1.0, 1e-3, 1e3)
    schedule: Literal["plateau", "cosine"] = "plateau"
    warmup: float = _number(0.05, 0.0, 0.9)
    batch_norm: Literal["batch", "frozen"] = "batch"
    backbone: Literal["trained", "frozen"] = "trained"
    frozen_stages: int = _number(0, 0, 5)
    ema_decay: float = _number(0.0, 0.0, 0.999999)
    plateau_factor: float = _number(0.5, 0.01, 0.99)
    plateau_patience: int = _number(3, 1, 100_000)
    minimum_learning_rate: float = _number(0.0, 0.0, 10.0)
    early_stop_patience: int = _number(0, 0, 100_000)
    keep: Literal["best", "last"] = "best"
    teachers: tuple[str, ...] = ()
    seed: int = _number(0, 0, 2**31 - 1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = _number(0, 0, 1024)
    compile: bool = False
    graph: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a run is made from.

    Attributes:
        name: The preset's name.
        summary: One line: which row of which table, and what to expect.
        data: Which images.
        augment: The augmentation plan.
        model: Which network.
        loss: Which losses.
        train: How long and how fast.
    """

    name: str = UNNAMED
    summary: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        """Refuses tables that contradict each other."""
        tables = self.to_mapping()
        for first, wanted, second, other, expected, action in _CLASHES:
            keys = [key.split(".") for key in (first, second)]
            value, beside = (tables[table][key] for table, key in keys)
            if _is(value, wanted) and _is(beside, other):
                raise ConfigError(
                    f"{first} is {json.dumps(value)} with {second} {json.dumps(beside)}",
                    expected=expected,
                    action=f"Set {action}",
                )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, source: str = "") -> Self:
        """Returns the configuration of parsed TOML.

        Args:
            mapping: The TOML.
            source: The file, for messages.

        Raises:
            ConfigError: For an unknown key (with the nearest one), a wrong type or value.
        """
        return build_record(cls, mapping, source)

    def to_mapping(self) -> dict[str, Any]:
        """Returns plain nested dictionaries, the inverse of ``from_mapping``."""
        return asdict(self)

    def to_toml(self) -> str:
        """Returns the configuration as TOML, every value spelt out."""
        return tomli_w.dumps(self.to_mapping())

    def override(self, assignments: Iterable[str]) -> Self:
        """Returns a copy with ``table.key=value`` assignments applied, values as in TOML.

        Example:
            >>> Config().override(["train.epochs=5", "data.split=paper"]).train.epochs
            5
        """
        mapping = self.to_mapping()
        for assignment in assignments:
            path, separator, text = assignment.partition("=")
            table, dot, key = path.strip().partition(".")
            values = mapping.setdefault(table, {})
            if not (separator and dot and isinstance(values, dict)):
                raise ConfigError(f'"{assignment}" sets nothing', expected="table.key=value")
            try:
                values[key] = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                values[key] = text.strip()
        return self.from_mapping(mapping)


def preset_names() -> tuple[str, ...]:
    """Returns the names of the shipped presets.

    There is one per row of the paper's Tables III to X, and variants that the paper has not.
    """
    return packaged_names("presets")


def load_preset(name: str) -> Config:
    """Returns a shipped preset.

    Raises:
        ConfigError: For an unknown name, with the nearest known one.
    """
    return Config.from_mapping({"name": name, **read_packaged("presets", name)})


def find_config(name: str) -> Config:
    """Returns a shipped preset by its name, or a configuration of one's own by its path.

    Args:
        name: A preset, or a path that ends in ``.toml``; what the file leaves out has the
            paper's value, and without a name of its own it has the file's.

    Raises:
        ConfigError: For what is neither.
    """
    if not name.endswith(".toml"):
        return load_preset(name)
    config = load_config(Path(name))
    return replace(config, name=Path(name).stem) if config.name == UNNAMED else config


def load_config(path: str | Path) -> Config:
    """Returns the configuration in a TOML file.

    Raises:
        ConfigError: If the file is missing, is no TOML, or holds what no run can be made from.
    """
    return Config.from_mapping(read_toml(Path(path)), source=str(path))


def _is(value: object, wanted: object) -> bool:
    if wanted is None:
        return bool(value)
    return value in wanted if isinstance(wanted, tuple) else value == wanted
