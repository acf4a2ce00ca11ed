"""The configuration of a run: frozen, checked when it is built, written beside every result.

A preset is a TOML file with the same five tables; what it leaves out has the paper's value.
"""

import dataclasses
import difflib
import math
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from dermfuse.errors import ConfigError
from dermfuse.records import read_plain, show_value

_T = TypeVar("_T")
_MOST_BYTES = 1 << 20  # of a file; the presets have a few hundred

UNNAMED = "custom"
"""The name of a configuration that was given none."""

Task = Literal["classification", "segmentation", "joint"]
"""What is learnt and predicted: classes, masks, or both at once."""


def has_scores(task: Task) -> bool:
    """Returns whether a task answers how likely an image is malignant."""
    return task != "segmentation"


def has_masks(task: Task) -> bool:
    """Returns whether a task outlines the lesion."""
    return task != "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
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
    validation_fraction: float = 0.2
    folds: int = 0
    fold: int = 0
    outer_folds: int = 0
    outer_fold: int = 0
    exclude_test_duplicates: bool = True
    input_size: int = 224
    fit: Literal["squeeze", "letterbox"] = "squeeze"

    def __post_init__(self) -> None:
        """Refuses values that contradict each other."""
        _between("data.validation_fraction", self.validation_fraction, 0.01, 0.9)
        _between("data.input_size", self.input_size, 32, 2048)
        if self.input_size % 32:
            raise ConfigError(
                f"data.input_size is {self.input_size}",
                expected="a multiple of 32",
                action=f"Set it to {max(32, round(self.input_size / 32) * 32)}",
            )
        for which in ("", "outer_"):
            folds, fold = getattr(self, f"{which}folds"), getattr(self, f"{which}fold")
            if folds == 1 or folds < 0:
                raise ConfigError(
                    f"data.{which}folds is {folds}",
                    expected=f"0 ({'none' if which else 'hold-out'}) or 2 or more",
                )
            if not 0 <= fold < max(folds, 1):
                raise ConfigError(
                    f"data.{which}fold is {fold} with data.{which}folds {folds}",
                    expected="a fold from 0 to folds - 1",
                )
        if self.outer_folds and not self.folds:
            raise ConfigError(
                f"data.outer_folds is {self.outer_folds} with data.folds 0",
                expected="folds of the images that are left, so that each of them can be taught",
                action="Set data.folds=2",
            )
        if self.split != "source" and self.folds:
            raise ConfigError(
                f'data.split is "{self.split}" with folds',
                expected='folds = 0, or split = "source"',
                action="Set data.folds=0",
            )

    @property
    def validates(self) -> bool:
        """Whether some images are held out, to choose an epoch by and to measure it on."""
        return self.split != "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
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
    benign_copies: int = 3
    malignant_copies: int = 13
    segmentation_draws: int = 6000
    minimum_crop: float = 0.8
    brightness: float = 0.2
    maximum_occlusion: float = 0.25
    maximum_crop: float = 1.15
    angle: float = 180.0
    stretch: float = 0.1
    shift: float = 0.08
    contrast: float = 0.2
    saturation: float = 0.25
    hue: float = 0.02
    blur: float = 0.008
    noise: float = 0.03
    resolution: float = 2.5
    minimum_quality: int = 30
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        """Refuses copies below one, fractions out of range, draws of nothing."""
        for key, wanted in (
            ("fresh", self.fresh),
            ('policy "label_blind"', self.policy != "paper"),
        ):
            if wanted and not self.enabled:
                raise ConfigError(
                    f"augment.{key} with augment.enabled false",
                    expected="augmentation, whose transforms can be drawn anew",
                    action="Set augment.enabled=true, or leave it out",
                )
        if self.fresh and self.policy == "label_blind":
            raise ConfigError(
                'augment.fresh with augment.policy "label_blind"',
                expected="one of them, for label-blind rows are drawn anew in every epoch",
                action="Set augment.fresh=false",
            )
        if self.mixup and self.cutmix:
            raise ConfigError(
                f"augment.mixup is {self.mixup} and augment.cutmix {self.cutmix}",
                expected="one of them above 0",
                action="Set one of them to 0",
            )
        for key in ("benign_copies", "malignant_copies"):
            _between(f"augment.{key}", getattr(self, key), 1, 1000)
        _between("augment.segmentation_draws", self.segmentation_draws, 0, 10_000_000)
        _between("augment.minimum_crop", self.minimum_crop, 0.1, 1.0)
        _between("augment.maximum_crop", self.maximum_crop, 1.0, 2.0)
        _between("augment.angle", self.angle, 0.0, 180.0)
        _between("augment.resolution", self.resolution, 1.0, 8.0)
        _between("augment.minimum_quality", self.minimum_quality, 1, 100)
        _between("augment.hue", self.hue, 0.0, 0.5)
        for key in ("brightness", "maximum_occlusion", "stretch", "contrast", "saturation"):
            _between(f"augment.{key}", getattr(self, key), 0.0, 0.9)
        _between("augment.shift", self.shift, 0.0, 0.5)
        _between("augment.blur", self.blur, 0.0, 0.05)
        _between("augment.noise", self.noise, 0.0, 0.5)
        for key in ("mixup", "cutmix"):
            _between(f"augment.{key}", getattr(self, key), 0.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
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
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuses a backbone where there is none, and its absence where one is needed."""
        if (self.network == "unet_original") != (self.backbone == ""):
            raise ConfigError(
                f'model.network "{self.network}" with model.backbone "{self.backbone}"',
                expected="a backbone for every network but unet_original, which has none",
            )
        _between("model.dropout", self.dropout, 0.0, 0.9)
        if self.dropout and self.task == "segmentation":
            raise ConfigError(
                f"model.dropout is {self.dropout} with model.network {self.network}",
                expected="0, for there is no class head to drop before",
                action="Set model.dropout=0",
            )
        if self.network == "unet_original" and self.init != "random":
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
class LossConfig:
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
        joint_class_weight: Of the class loss of the joint network, beside its mask loss.
        label_smoothing: Share of the class target that is spread over both classes.
        distillation: Weight of what ``train.teachers`` say in the target, beside the truth.
    """

    class_loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_alpha: float = 0.25
    focal_gamma: float = 0.75
    class_weight_a: float = 1.0
    class_weight_b: float = 1.0
    discriminant_weight: float = 0.5
    mask_loss: Literal["dice_bce", "focal"] = "dice_bce"
    mask_focal_alpha: float = 0.75
    mask_focal_gamma: float = 1.25
    joint_class_weight: float = 1.0
    label_smoothing: float = 0.0
    distillation: float = 0.7

    def __post_init__(self) -> None:
        """Refuses weights below zero."""
        for key in ("focal_alpha", "mask_focal_alpha"):
            _between(f"loss.{key}", getattr(self, key), 0.0, 1.0)
        for key in ("focal_gamma", "mask_focal_gamma"):
            _between(f"loss.{key}", getattr(self, key), 0.0, 10.0)
        for key in (
            "class_weight_a",
            "class_weight_b",
            "discriminant_weight",
            "joint_class_weight",
        ):
            _between(f"loss.{key}", getattr(self, key), 0.0, 1000.0)
        _between("loss.label_smoothing", self.label_smoothing, 0.0, 0.9)
        _between("loss.distillation", self.distillation, 0.0, 1.0)

    @property
    def weights(self) -> tuple[float, float, float]:
        """A, B and C of the total loss."""
        return self.class_weight_a, self.class_weight_b, self.discriminant_weight


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How the network is trained (paper, sections III-A-2 and III-B-2).

    Attributes:
        epochs: Passes over the training samples.
        batch_size: Samples per step; a pair network sees this many pairs.
        learning_rate: Of Adam, at the start.
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
        ema_decay: Of the exponential moving average of the weights, per step; 0 keeps none. The
            average is what is validated and kept; the training goes on with the weights
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
        seed: Of the split, the plan, the weights and the order of samples.
        precision: ``auto`` is bfloat16 autocast where the device multiplies it in hardware.
        device: ``auto`` is CUDA where there is one, else the CPU.
        threads: CPU threads; 0 leaves PyTorch's choice.
        compile: Compiles the forward pass of a training step with ``torch.compile``; the first
            steps are slow, and results differ in rounding.
        graph: Takes the whole training step as one CUDA graph, for networks so small that the
            launching of kernels bounds them; one CUDA device alone. Not yet measured.
    """

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    new_layer_factor: float = 1.0
    schedule: Literal["plateau", "cosine"] = "plateau"
    warmup: float = 0.05
    batch_norm: Literal["batch", "frozen"] = "batch"
    backbone: Literal["trained", "frozen"] = "trained"
    frozen_stages: int = 0
    ema_decay: float = 0.0
    plateau_factor: float = 0.5
    plateau_patience: int = 3
    minimum_learning_rate: float = 0.0
    early_stop_patience: int = 0
    keep: Literal["best", "last"] = "best"
    teachers: tuple[str, ...] = ()
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    compile: bool = False
    graph: bool = False

    def __post_init__(self) -> None:
        """Refuses counts below one and rates out of range."""
        _between("train.epochs", self.epochs, 1, 100_000)
        _between("train.batch_size", self.batch_size, 2, 65_536)
        _between("train.learning_rate", self.learning_rate, 1e-9, 10.0)
        _between("train.weight_decay", self.weight_decay, 0.0, 10.0)
        _between("train.gradient_clip", self.gradient_clip, 0.0, 1e6)
        _between("train.warmup", self.warmup, 0.0, 0.9)
        _between("train.minimum_learning_rate", self.minimum_learning_rate, 0.0, 10.0)
        _between("train.new_layer_factor", self.new_layer_factor, 1e-3, 1e3)
        _between("train.frozen_stages", self.frozen_stages, 0, 5)
        _between("train.ema_decay", self.ema_decay, 0.0, 0.999999)
        _between("train.plateau_factor", self.plateau_factor, 0.01, 0.99)
        _between("train.plateau_patience", self.plateau_patience, 1, 100_000)
        _between("train.early_stop_patience", self.early_stop_patience, 0, 100_000)
        _between("train.seed", self.seed, 0, 2**31 - 1)
        _between("train.threads", self.threads, 0, 1024)
        if self.graph and self.compile:
            raise ConfigError(
                "train.graph and train.compile are both true",
                expected="one of them",
                action="Set train.compile=false or train.graph=false",
            )


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
        for key, moved in (("batch_norm", "batch"), ("backbone", "trained")):
            if getattr(self.train, key) == "frozen" and self.model.init == "random":
                raise ConfigError(
                    f'train.{key} is "frozen" with model.init "random"',
                    expected="ImageNet weights, which can be kept",
                    action=f"Set train.{key}={moved} or model.init=imagenet",
                )
        if self.train.frozen_stages and self.model.init == "random":
            raise ConfigError(
                f'train.frozen_stages is {self.train.frozen_stages} with model.init "random"',
                expected="ImageNet weights, which can be kept",
                action="Set train.frozen_stages=0 or model.init=imagenet",
            )
        if self.augment.policy == "label_blind" and self.data.split == "paper":
            raise ConfigError(
                'augment.policy is "label_blind" with data.split "paper"',
                expected="the paper's plan, whose rows that split divides",
                action="Set data.split=source or augment.policy=paper",
            )
        if (self.augment.mixup or self.augment.cutmix) and self.model.task != "classification":
            raise ConfigError(
                f"augment.mixup or cutmix with model.network {self.model.network}",
                expected="0, for masks cannot be mixed",
                action="Set augment.mixup=0 and augment.cutmix=0",
            )
        if self.train.minimum_learning_rate and self.train.schedule == "cosine":
            raise ConfigError(
                f"train.minimum_learning_rate is {self.train.minimum_learning_rate} with"
                ' train.schedule "cosine"',
                expected="0, for the cosine ends by itself",
                action="Set train.minimum_learning_rate=0 or train.schedule=plateau",
            )
        if not self.data.validates and self.train.schedule == "plateau":
            raise ConfigError(
                'train.schedule is "plateau" with data.split "all"',
                expected='"cosine", for without validation images no loss can reach a plateau',
                action="Set train.schedule=cosine or data.split=source",
            )
        if self.train.keep == "last" and self.train.early_stop_patience:
            raise ConfigError(
                f"train.early_stop_patience is {self.train.early_stop_patience} with train.keep"
                ' "last"',
                expected="0, for whoever stops early keeps the best epoch",
                action="Set train.early_stop_patience=0 or train.keep=best",
            )
        if not self.data.validates and self.train.early_stop_patience:
            raise ConfigError(
                f"train.early_stop_patience is {self.train.early_stop_patience} with data.split"
                ' "all"',
                expected="0, for without validation images there is nothing to stop by",
                action="Set train.early_stop_patience=0 or data.split=source",
            )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Returns the configuration of parsed TOML.

        Raises:
            ConfigError: For an unknown key (with the nearest one), a wrong type or value.
        """
        return _build(cls, mapping, "")

    def to_mapping(self) -> dict[str, Any]:
        """Returns plain nested dictionaries, the inverse of ``from_mapping``."""
        return dataclasses.asdict(self)

    def to_toml(self) -> str:
        """Returns the configuration as TOML, every value spelt out."""
        top = [f"{key} = {_toml(getattr(self, key))}" for key in ("name", "summary")]
        lines = list(top)
        for key, table in self.to_mapping().items():
            if isinstance(table, dict):
                lines += ["", f"[{key}]"]
                lines += [f"{name} = {_toml(value)}" for name, value in table.items()]
        return "\n".join(lines) + "\n"

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
            if not (separator and dot):
                raise ConfigError(f'"{assignment}" sets nothing', expected="table.key=value")
            _refuse_unknown([table], [f.name for f in fields(self)[2:]], "")
            mapping[table][key] = _value(text.strip())
        return self.from_mapping(mapping)


def preset_names() -> tuple[str, ...]:
    """Returns the names of the shipped presets.

    There is one per row of the paper's Tables III to X, and variants that the paper has not.
    """
    folder = resources.files("dermfuse") / "presets"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_preset(name: str) -> Config:
    """Returns a shipped preset.

    Raises:
        ConfigError: For an unknown name, with the nearest known one.
    """
    known = preset_names()
    if name not in known:
        raise ConfigError(
            f'no preset is called "{name}"',
            expected=f"one of {', '.join(known)}",
            action=_did_you_mean(name, known),
        )
    text = (resources.files("dermfuse") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    return Config.from_mapping({"name": name, **tomllib.loads(text)})


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
    path = Path(path)
    try:
        content = read_plain(path, most_bytes=_MOST_BYTES, error=ConfigError)
        mapping = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({error})", expected="a TOML file") from error
    return Config.from_mapping(mapping)


def read_table(cls: type[_T], mapping: Mapping[str, Any], *, prefix: str = "") -> _T:
    """Returns a dataclass of a parsed TOML table; what the table leaves out has its default.

    Args:
        cls: A dataclass of texts, numbers, choices and lists of texts.
        mapping: The table.
        prefix: What stands before its keys, for messages.

    Raises:
        ConfigError: For an unknown key (with the nearest one), a wrong type or value.
    """
    return _build(cls, mapping, prefix)


def _build(cls: type[_T], mapping: Mapping[str, Any], prefix: str) -> _T:
    hints = get_type_hints(cls)
    _refuse_unknown(mapping, hints, prefix)
    values = {key: _checked(f"{prefix}{key}", value, hints[key]) for key, value in mapping.items()}
    return cls(**values)


def _checked(key: str, value: Any, hint: Any) -> Any:  # noqa: ANN401 — parsed TOML is of any type
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} is {show_value(value)}", expected="a table")
        return _build(hint, value, f"{key}.")  # type: ignore[arg-type]
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        choices = [str(choice) for choice in get_args(hint)]
        raise ConfigError(
            f"{key} is {show_value(value)}",
            expected=f"one of {', '.join(choices)}",
            action=_did_you_mean(str(value), choices),
        )
    if hint == tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{key} is {show_value(value)}", expected="a list of texts")
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if type(value) is not hint:
        raise ConfigError(
            f"{key} is {show_value(value)}, a {type(value).__name__}", expected=f"a {hint.__name__}"
        )
    return value


def _refuse_unknown(keys: Iterable[str], known: Iterable[str], prefix: str) -> None:
    known = list(known)
    for key in keys:
        if key not in known:
            raise ConfigError(
                f'the configuration has no key "{prefix}{show_value(key)[1:-1]}"',
                expected=f"one of {', '.join(prefix + name for name in known)}",
                action=_did_you_mean(key, known),
            )


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f'Did you mean "{nearest[0]}"' if nearest else ""


def _between(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{key} is {value}", expected=f"a value from {low} to {high}")


def _value(text: str) -> Any:  # noqa: ANN401 — parsed TOML is of any type
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return repr(value)
