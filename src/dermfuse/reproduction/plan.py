"""From tables, seeds and folds to the runs that they need, each once.

Beyond the paper's rows, variations are set against its networks: presets, more looks, ensembles.
One that needs no training of its own is written ``PRESET+HOW``:

    +tta      mean over the eight symmetries of the square
    +seeds    mean over the networks of all seeds
    +folds    mean over the networks of all folds; of the test split alone, as every training
              image was seen by all folds but one
"""

import fnmatch
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from dermfuse.config import Task, load_preset, preset_names
from dermfuse.errors import ConfigError
from dermfuse.records import did_you_mean
from dermfuse.reproduction.paper import METRICS, TABLES, Contrast, PaperRow, PaperTable, fusion_of
from dermfuse.training.jobs import Run, identity

How = Literal["tta", "seeds", "folds"]

_VARIANTS: tuple[tuple[str, str], ...] = (
    ("dc-mobilenetv1-blind", "label-blind augmentation"),
    ("dc-mobilenetv1-fresh", "fresh augmentation in every epoch"),
    ("dc-mobilenetv1-ema", "an exponential moving average of the weights"),
    ("dc-mobilenetv1-cosine", "a cosine schedule"),
    ("dc-mobilenetv1-frozen", "the backbone left as ImageNet has it"),
    ("dc-efficientnetlite0", "EfficientNet-Lite0 as the backbone"),
    ("dc-mobilenetv2", "MobileNetV2 as the backbone"),
    ("u-mobilenetv1-blind", "label-blind augmentation"),
    ("u-mobilenetv1-fresh", "fresh augmentation in every epoch"),
    ("u-mobilenetv1-ema", "an exponential moving average of the weights"),
    ("u-mobilenetv1-cosine", "a cosine schedule"),
    ("u-mobilenetv1-320", "an input of 320 px"),
    ("u-efficientnetlite0", "EfficientNet-Lite0 as the backbone"),
    ("u-mobilenetv2", "MobileNetV2 as the backbone"),
    ("joint-mobilenetv1", "one network with both heads"),
)

LEAKAGE, BEYOND = "leakage", "beyond"

LEAKAGE_PRESETS = ("dc-mobilenetv1", "u-mobilenetv1")
"""Trained by the paper's split and by ours, to show what the paper's does to validation."""

CHOICES: tuple[str, ...] = (*(table.number for table in TABLES), LEAKAGE, BEYOND)
"""What ``--tables`` may name."""

DEFAULT_FOLDS = 5
"""Of the cross-validation that fills the tables where the test set has no truth."""

_OWNED = ("data.split", "data.folds", "data.fold", "train.seed")


def split_source(source: str) -> tuple[str, How | None]:
    """Returns the preset of a source, and how its networks are asked.

    Example:
        >>> split_source("dc-mobilenetv1+tta"), split_source("dc-mobilenetv1")
        (('dc-mobilenetv1', 'tta'), ('dc-mobilenetv1', None))
    """
    preset, _, how = source.partition("+")
    return preset, next((known for known in get_args(How) if known == how), None)


def beyond_tables(*, seeds: int, folds_on_test: bool) -> tuple[PaperTable, ...]:
    """Returns one table of variations per task, each set against the paper's own network.

    Args:
        seeds: How many each preset is trained with; the mean over seeds needs two.
        folds_on_test: Whether the mean over folds can be measured, on the test split.
    """
    how = [("tta", "flips and rotations at test time")]
    how += [("seeds", f"the mean of {seeds} seeds")] if seeds > 1 else []
    how += [("folds", "the mean of the folds")] if folds_on_test else []
    bases: tuple[tuple[Task, str], ...] = (("classification", "dc-"), ("segmentation", "u-"))
    return tuple(
        _table(
            task,
            base := f"{prefix}mobilenetv1",
            [each for each in _VARIANTS if each[0].startswith((prefix, "joint-"))]
            + [(f"{base}+{key}", what) for key, what in how],
        )
        for task, prefix in bases
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be trained, and what for.

    Attributes:
        tables: The paper's tables that are asked for, then those beyond it.
        seeds: How many; 0 to seeds - 1.
        folds: Folds of the cross-validation; 0 for one hold-out split.
        mask_folds: The same for the networks that only outline, whose training takes longer.
        overrides: The assignments that changed the presets.
        runs: Each once, those of the first seed first.
        needs: The runs of each preset and seed, one per fold.
        leakage_pairs: For each preset, the run by the paper's split and that by source image.
    """

    tables: tuple[PaperTable, ...]
    seeds: int
    folds: int
    mask_folds: int
    overrides: tuple[str, ...]
    runs: tuple[Run, ...]
    needs: Mapping[tuple[str, int], tuple[Run, ...]]
    leakage_pairs: Mapping[str, tuple[Run, Run]]

    @property
    def sources(self) -> tuple[str, ...]:
        """The presets, fusions and variations that are rows of some table, each once."""
        return tuple(dict.fromkeys(s for table in self.tables for s in table.sources))

    def runs_of(self, preset: str, seed: int) -> tuple[Run, ...]:
        """Returns the runs that one row needs with one seed: the folds, or the hold-out."""
        return self.needs[preset, seed]

    def folds_of(self, source: str) -> int:
        """Returns in how many folds a preset, a fusion or a variation is cross-validated."""
        preset = presets_of([source])[0]
        return _folds_of(preset, self.folds, self.mask_folds)

    def runs_to_train(self, only: Sequence[str] = ()) -> tuple[Run, ...]:
        """Returns the runs whose preset fits one of the names or patterns; all without any.

        Raises:
            ConfigError: A name fits no run of the plan.
        """
        planned = sorted({run.preset for run in self.runs})
        for name in only:
            if not fnmatch.filter(planned, name):
                raise _unknown("planned preset", name, planned)
        fits = {preset for name in only for preset in fnmatch.filter(planned, name)}
        return tuple(run for run in self.runs if not only or run.preset in fits)


def make_plan(
    tables: Sequence[str] = CHOICES,
    *,
    seeds: int = 1,
    folds: int = DEFAULT_FOLDS,
    mask_folds: int | None = None,
    overrides: Sequence[str] = (),
    minimum_learning_rate: float = 0.0,
    test_truth: bool = False,
) -> Plan:
    """Returns the runs that the tables need; a run that several need is there once.

    Args:
        tables: Some of ``CHOICES``.
        seeds: How often each row is trained, with seeds from 0.
        folds: 2 or more, or 0 for one hold-out split.
        mask_folds: The same for the networks that only outline; None is as ``folds``.
        overrides: ``table.key=value`` for every preset, ``PRESET:table.key=value`` for one, or
            for those that a pattern like ``u-*`` fits.
        minimum_learning_rate: ``train.minimum_learning_rate`` of all runs under the plateau rule
            that set none.
        test_truth: Whether the test split can be measured.

    Raises:
        ConfigError: For an unknown table, with the nearest known one; a count out of range; an
            override of what the plan itself sets, or one that does not fit a preset.
    """
    mask_folds = folds if mask_folds is None else mask_folds
    _check(tables, seeds, overrides)
    for what, number in (("folds", folds), ("mask_folds", mask_folds)):
        if number < 0 or number == 1:
            raise ConfigError(f"{what} is {number}", expected="0 (hold-out) or 2 or more")
    chosen = tuple(table for table in TABLES if table.number in tables)
    if BEYOND in tables:
        chosen += beyond_tables(seeds=seeds, folds_on_test=folds > 0 and test_truth)
    once: dict[str, Run] = {}
    minimum = [f"train.minimum_learning_rate={minimum_learning_rate}"]
    minimum = minimum if minimum_learning_rate else []

    def plan_run(preset: str, *, seed: int, folds: int = 0, fold: int = 0, split: str = "") -> Run:
        own = [f"train.seed={seed}", f"data.folds={folds}", f"data.fold={fold}"]
        own += [f"data.split={split}"] if split else []
        protocol = ["data.exclude_test_duplicates=false"] if split == "paper" else []
        config = load_preset(preset).override([*protocol, *_for_preset(overrides, preset), *own])
        if config.train.schedule == "plateau" and not config.train.minimum_learning_rate:
            config = config.override(minimum)
        held_out = "papersplit" if split == "paper" else "holdout"
        name = f"{preset}-seed{seed}-{f'fold{fold + 1}of{folds}' if folds else held_out}"
        key = json.dumps(identity(config), sort_keys=True)
        return once.setdefault(key, Run(name, preset, config))

    needs = {
        (preset, seed): tuple(
            plan_run(preset, seed=seed, folds=count, fold=fold) for fold in range(max(count, 1))
        )
        for seed in range(seeds)
        for preset in presets_of([source for table in chosen for source in table.sources])
        for count in [_folds_of(preset, folds, mask_folds)]
    }
    pairs = {
        preset: (
            plan_run(preset, seed=0, split="paper"),
            plan_run(preset, seed=0, split="source"),
        )
        for preset in (LEAKAGE_PRESETS if LEAKAGE in tables else ())
    }
    return Plan(
        tables=chosen,
        seeds=seeds,
        folds=folds,
        mask_folds=mask_folds,
        overrides=(*overrides, *minimum),
        runs=tuple(once.values()),
        needs=needs,
        leakage_pairs=pairs,
    )


def changes(plan: Plan) -> Mapping[str, list[str]]:
    """Returns, for each preset, the settings in which its runs differ from it, in words."""
    said: dict[str, list[str]] = {}
    for run in plan.runs:
        if run.preset in said:
            continue
        before, now = identity(load_preset(run.preset)), identity(run.config)
        said[run.preset] = [
            f"{table}.{key} = {value}"
            for table, values in now.items()
            for key, value in values.items()
            if value != before[table][key] and f"{table}.{key}" not in _OWNED
        ]
    return said


def presets_of(sources: Sequence[str]) -> tuple[str, ...]:
    """Returns the presets behind rows: fusions are made of two, variations of one."""
    presets: list[str] = []
    for source in sources:
        fusion = fusion_of(source)
        presets += [fusion.a, fusion.b] if fusion else [split_source(source)[0]]
    return tuple(dict.fromkeys(presets))


def _table(task: Task, base: str, variants: Sequence[tuple[str, str]]) -> PaperTable:
    return PaperTable(
        number=f"beyond, {task}",
        title=f"Beyond the paper: {task}",
        task=task,
        metrics=METRICS[task],
        rows=(
            PaperRow(f"{base}, as in the paper", base, {}),
            *(PaperRow(f"{base} with {what}", name, {}) for name, what in variants),
        ),
        contrasts=tuple(Contrast(what, name, base) for name, what in variants),
    )


def _for_preset(overrides: Sequence[str], preset: str) -> list[str]:
    """Returns the assignments for one preset, those for it alone last."""
    named = [_split_override(text) for text in overrides]
    own = [text for name, text in named if name and fnmatch.fnmatchcase(preset, name)]
    return [text for name, text in named if not name] + own


def _folds_of(preset: str, folds: int, mask_folds: int) -> int:
    return mask_folds if load_preset(preset).model.task == "segmentation" else folds


def _split_override(text: str) -> tuple[str, str]:
    before, colon, after = text.partition(":")
    return (before, after) if colon and "=" not in before else ("", text)


def _check(tables: Sequence[str], seeds: int, overrides: Sequence[str]) -> None:
    for name in tables:
        if name not in CHOICES:
            raise _unknown("table", name, CHOICES)
    if not tables:
        raise ConfigError("no table is named", expected=f"some of {', '.join(CHOICES)}")
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}", expected="1 or more")
    for text in overrides:
        preset, assignment = _split_override(text)
        if preset and not fnmatch.filter(preset_names(), preset):
            raise _unknown("preset", preset, preset_names())
        key = assignment.partition("=")[0].strip()
        if key in _OWNED:
            raise ConfigError(
                f'"{text}" sets what the plan sets itself',
                expected="another setting",
                action="Use --seeds and --folds, --tables leakage for the paper's split, and"
                " dermfuse train for data.split=all",
            )


def _unknown(what: str, name: str, known: Collection[str]) -> ConfigError:
    same = [each for each in known if each.lower() == name.lower()]
    return ConfigError(
        f'no {what} is called "{name}"',
        expected=f"one of {', '.join(known)}",
        action=did_you_mean(same[0] if same else name, known),
    )
