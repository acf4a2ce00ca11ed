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
from dermfuse.reproduction.paper import (
    FUSIONS,
    METRICS,
    TABLES,
    VARIANTS,
    Contrast,
    PaperRow,
    PaperTable,
)
from dermfuse.training.jobs import Run, identity

How = Literal["tta", "seeds", "folds"]

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


def presets_of(source: str) -> tuple[str, ...]:
    """Returns the presets behind a row: a fusion is made of two, a variation of one."""
    fusion = FUSIONS.get(source)
    return fusion.presets if fusion else (split_source(source)[0],)


def beyond_tables(*, seeds: int, folds_on_test: bool) -> tuple[PaperTable, ...]:
    """Returns one table of variations per task, each set against the paper's own network.

    Args:
        seeds: How many each preset is trained with; the mean over seeds needs two.
        folds_on_test: Whether the mean over folds can be measured, on the test split.
    """
    how = {"tta": "flips and rotations at test time"}
    how |= {"seeds": f"the mean of {seeds} seeds"} if seeds > 1 else {}
    how |= {"folds": "the mean of the folds"} if folds_on_test else {}
    return _beyond("classification", "dc-", how), _beyond("segmentation", "u-", how)


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
        needs: The runs of each preset and seed: one per fold, or the hold-out.
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

    def runs_of(self, source: str, seed: int) -> list[tuple[Run, ...]]:
        """Returns the runs of each network of a row."""
        return [self.needs[preset, seed] for preset in presets_of(source)]

    def folds_of(self, source: str) -> int:
        """Returns in how many folds a preset, a fusion or a variation is cross-validated."""
        return self.needs[presets_of(source)[0], 0][0].config.data.folds

    def runs_to_train(self, only: Sequence[str] = ()) -> tuple[Run, ...]:
        """Returns the runs whose preset fits one of the names or patterns; all without any.

        Raises:
            ConfigError: A name fits no run of the plan.
        """
        planned = sorted({run.preset for run in self.runs})
        fits = {name: fnmatch.filter(planned, name) for name in only}
        for name, fitting in fits.items():
            if not fitting:
                raise _unknown("planned preset", name, planned)
        chosen = {preset for fitting in fits.values() for preset in fitting} or planned
        return tuple(run for run in self.runs if run.preset in chosen)


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
    _check(tables, seeds=seeds, folds=folds, mask_folds=mask_folds)
    assignments = _read_overrides(overrides)
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
        given = [each for whose, each in assignments if fnmatch.fnmatchcase(preset, whose or "*")]
        config = load_preset(preset).override([*protocol, *given, *own])
        if config.train.schedule == "plateau" and not config.train.minimum_learning_rate:
            config = config.override(minimum)
        held_out = "papersplit" if split == "paper" else "holdout"
        name = f"{preset}-seed{seed}-{f'fold{fold + 1}of{folds}' if folds else held_out}"
        key = json.dumps(identity(config), sort_keys=True)
        return once.setdefault(key, Run(name, preset, config))

    def plan_folds(preset: str, seed: int) -> tuple[Run, ...]:
        only_outlines = load_preset(preset).model.task == "segmentation"
        count = mask_folds if only_outlines else folds
        return tuple(
            plan_run(preset, seed=seed, folds=count, fold=fold) for fold in range(max(count, 1))
        )

    sources = [source for table in chosen for source in table.sources]
    presets = dict.fromkeys(preset for source in sources for preset in presets_of(source))
    needs = {
        (preset, seed): plan_folds(preset, seed) for seed in range(seeds) for preset in presets
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


def changes(run: Run) -> list[str]:
    """Returns the settings in which a run differs from its preset, in words."""
    before, now = identity(load_preset(run.preset)), identity(run.config)
    return [
        f"{table}.{key} = {value}"
        for table, values in now.items()
        for key, value in values.items()
        if value != before[table][key] and f"{table}.{key}" not in _OWNED
    ]


def _beyond(task: Task, prefix: str, how: Mapping[str, str]) -> PaperTable:
    base = f"{prefix}mobilenetv1"
    variants = {
        name: what for name, what in VARIANTS.items() if name.startswith((prefix, "joint-"))
    }
    variants |= {f"{base}+{key}": what for key, what in how.items()}
    return PaperTable(
        number=f"beyond, {task}",
        title=f"Beyond the paper: {task}",
        task=task,
        metrics=METRICS[task],
        rows=(
            PaperRow(f"{base}, as in the paper", base),
            *(PaperRow(f"{base} with {what}", name) for name, what in variants.items()),
        ),
        contrasts=tuple(Contrast(what, name, base) for name, what in variants.items()),
    )


def _check(tables: Sequence[str], *, seeds: int, **folds: int) -> None:
    for name in tables:
        if name not in CHOICES:
            raise _unknown("table", name, CHOICES)
    if not tables:
        raise ConfigError("no table is named", expected=f"some of {', '.join(CHOICES)}")
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}", expected="1 or more")
    for what, number in folds.items():
        if number < 0 or number == 1:
            raise ConfigError(f"{what} is {number}", expected="0 (hold-out) or 2 or more")


def _read_overrides(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Returns whose each assignment is, a preset or a pattern, and it; those of all come first."""
    found = []
    for text in overrides:
        before, colon, after = text.partition(":")
        whose, assignment = (before, after) if colon and "=" not in before else ("", text)
        if whose and not fnmatch.filter(preset_names(), whose):
            raise _unknown("preset", whose, preset_names())
        if assignment.partition("=")[0].strip() in _OWNED:
            raise ConfigError(
                f'"{text}" sets what the plan sets itself',
                expected="another setting",
                action="Use --seeds and --folds, --tables leakage for the paper's split, and"
                " dermfuse train for data.split=all",
            )
        found.append((whose, assignment))
    return sorted(found, key=lambda each: bool(each[0]))


def _unknown(what: str, name: str, known: Collection[str]) -> ConfigError:
    same = [each for each in known if each.lower() == name.lower()]
    return ConfigError(
        f'no {what} is called "{name}"',
        expected=f"one of {', '.join(known)}",
        action=did_you_mean(same[0] if same else name, known),
    )
