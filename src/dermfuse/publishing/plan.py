"""The plan of a release: which networks are trained, which of them teach, which ship.

name = "dermfuse-2026.12"           of the release
precision = "int8-weights"          of the networks that ship
looks = 8                           orientations at which they look: 1, 4 or 8
weights = "fitted"                  of class networks: fitted out of fold, or "equal"
folds = 3                           by lesion; 0 for one hold-out

[[network]]
preset = "dc-mobilenetv1-shipped"   or a TOML file, named from where the plan lies
name = "small"                      of its runs; the preset's if left out
ships = true                        false: it teaches alone
folds = 5                           in place of the plan's
whole = false                       with one hold-out: that run ships, not one of all images
start = "first"                     a network of the plan, in as many folds: each run starts from
                                    its run of the same images
teachers = ["large"]                networks of this plan that teach this one, each fold by
                                    runs of theirs that never saw that fold
set = ["train.epochs=5"]            changes to the preset
leave_out = true                    whether the list of what may not be used holds for it
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal

from dermfuse.config import Config, find_config, has_masks, has_scores
from dermfuse.errors import ConfigError
from dermfuse.imaging.symmetries import Looks
from dermfuse.records import (
    build_record,
    did_you_mean,
    packaged_names,
    read_packaged,
    read_toml,
    show_value,
)
from dermfuse.release.cards import Precision, is_file_name
from dermfuse.release.folder import RESERVED, require_text
from dermfuse.training.jobs import Run, Workplace

Weights = Literal["fitted", "equal"]
"""How class networks are weighed: so that labels are likeliest, or all alike."""

_AS_PLANNED = -1
_MOST_FOLDS = 1000  # each is a training
_INNER_FOLDS = 2  # of what a fold's teachers may see: each half is taught by the other
_RUN_ENDING = re.compile(r"-(holdout|(fold|without)\d+of\d+|int8(-weights)?)$")
_MOST_NAME_BYTES = 180  # with an ending it is the name of a file
_OWNED = (
    *("data.split", "data.folds", "data.fold", "data.outer_folds", "data.outer_fold"),
    "train.teachers",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNetwork:
    """One network of a plan.

    Attributes:
        preset: A shipped preset, or your own TOML file.
        name: What its runs are called; the preset's name if empty.
        ships: Whether it is part of the release.
        folds: 2 or more, 0 for one hold-out; below 0 as the plan says.
        whole: Whether a run of all images ships; otherwise the one hold-out's own network does,
            which is the very one that was measured.
        start: Name of a network of the plan: each run starts from the weights of its run that held
            back the same images; the run of all images from its run of all images.
        teachers: Names of networks of the plan.
        set: ``table.key=value`` changes to the preset.
        leave_out: Whether the list of what may not be used holds for it.
    """

    preset: str
    name: str = ""
    ships: bool = True
    folds: int = _AS_PLANNED
    whole: bool = True
    start: str = ""
    teachers: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    leave_out: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHead:
    """A plan's own keys.

    Attributes:
        name: The release's name.
        precision: How the networks that ship store and compute.
        looks: At how many orientations of an image they look.
        weights: How class networks are weighed.
        folds: Folds of every network that says nothing else.
    """

    name: str
    precision: Precision = "int8-weights"
    looks: Looks = 8
    weights: Weights = "fitted"
    folds: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan(PlanHead):
    """What a plan says.

    Attributes:
        networks: Each with a name and folds of its own.
        configs: The recipe of each network by its name, its teachers not yet in it.
    """

    networks: tuple[PlannedNetwork, ...]
    configs: Mapping[str, Config]


@dataclass(frozen=True, slots=True)
class NetworkRuns:
    """The trainings of one network.

    Attributes:
        network: As the plan has it.
        folds: Those that hold images back.
        whole: The one that ships: on all images, or the one hold-out; None for a network that
            teaches alone.
        inner: Those that teach the folds of another network: without the images of the fold; and
            the run of all images that another network starts from, where this one ships not.
    """

    network: PlannedNetwork
    folds: tuple[Run, ...]
    whole: Run | None
    inner: tuple[Run, ...] = ()

    @property
    def all(self) -> tuple[Run, ...]:
        """All of them."""
        more = () if self.whole is None or self.whole in self.folds else (self.whole,)
        return (*self.inner, *self.folds, *more)


def plan_names() -> tuple[str, ...]:
    """Returns the names of the plans that are part of the package."""
    return packaged_names("plans")


def read_plan(name: str) -> ReleasePlan:
    """Returns a plan of the package by its name, or your own by its path.

    Args:
        name: A plan of the package, or a path that ends in ``.toml``.

    Raises:
        ConfigError: There is none; a key, preset or teacher is unknown; networks teach each other
            in a circle; a network that teaches was not trained in folds; two have one name.
    """
    if name.endswith(".toml"):
        return parse_plan(read_toml(Path(name)), folder=Path(name).parent)
    return parse_plan(read_packaged("plans", name))


def parse_plan(mapping: Mapping[str, Any], *, folder: Path | None = None) -> ReleasePlan:
    """Returns the plan of parsed TOML; see ``read_plan`` for the errors.

    Args:
        mapping: The TOML.
        folder: From which presets that are files are named.
    """
    tables = mapping.get("network", [])
    head = {key: value for key, value in mapping.items() if key != "network"}
    if "name" not in head:
        raise ConfigError("the plan has no name", expected='name = "..." of the release')
    if not isinstance(tables, list) or not tables:
        raise ConfigError("the plan has no network", expected="a table [[network]] or more")
    own = build_record(PlanHead, head, within="plan")
    require_text(own.name, "plan.name", error=ConfigError)
    _check_folds("plan.folds", own.folds)
    networks = tuple(_read_network(table, own.folds) for table in tables)
    configs = {network.name: _config(network, folder) for network in networks}
    plan = ReleasePlan(**asdict(own), networks=networks, configs=configs)
    _check(plan)
    return plan


def plan_runs(
    plan: ReleasePlan, place: Workplace, *, leave_out: Path | None = None
) -> tuple[NetworkRuns, ...]:
    """Returns the trainings that a plan needs: NAME-fold1of3 and so on, or NAME-holdout, and NAME.

    NAME alone is the network that ships, trained on all images. A network that teaches has runs
    NAME-without1of3-fold1of2 as well: they never saw what fold 1 of 3 of its pupil holds back, and
    teach that fold. Out-of-fold numbers of the pupil are as honest as those of any other network.

    Args:
        plan: The plan.
        place: Where they are trained.
        leave_out: A list of what may not be used.

    Raises:
        ConfigError: A recipe cannot be trained in folds, or not on all images.
    """
    by_name = {one.name: one for one in plan.networks}
    begun = {one.start for one in plan.networks if one.start and one.whole}
    found = []
    for network in plan.networks:
        listed = leave_out if network.leave_out else None
        make = partial(_run, network, plan.configs[network.name], place, listed)
        starts = _fold_names(by_name[network.start]) if network.start else repeat("")
        folds = tuple(
            make(name, start, _teachers(network, fold), folds=network.folds, fold=fold)
            for fold, (name, start) in enumerate(zip(_fold_names(network), starts, strict=False))
        )
        whole = folds[0]
        if network.whole and (network.ships or network.name in begun):
            teachers = chain.from_iterable(_fold_names(by_name[each]) for each in network.teachers)
            whole = make(network.name, network.start, tuple(teachers), split="all", folds=0, fold=0)
        inner = [
            make(name, folds=_INNER_FOLDS, fold=fold, outer_folds=folds_of, outer_fold=outer)
            for folds_of in sorted({n.folds for n in plan.networks if network.name in n.teachers})
            for outer in range(folds_of)
            for fold, name in enumerate(_inner_names(network.name, folds_of, outer))
        ]
        inner += [whole] if not network.ships and whole is not folds[0] else []
        found.append(NetworkRuns(network, folds, whole if network.ships else None, tuple(inner)))
    return tuple(found)


def _run(
    network: PlannedNetwork,
    config: Config,
    place: Workplace,
    leave_out: Path | None,
    name: str,
    start: str = "",
    taught_by: tuple[str, ...] = (),
    **images: str | int,
) -> Run:
    """Returns one training of a network; ``images`` are keys of ``data`` that say on which."""
    after = (*taught_by, start) if start else taught_by
    teachers = tuple(str((place.out / "runs" / teacher).resolve()) for teacher in taught_by)
    with _naming(network.name):
        config = replace(
            config,
            data=replace(config.data, **{"split": "source", **images}),  # type: ignore[arg-type]
            train=replace(config.train, teachers=teachers),
        )
    return Run(name, network.preset, config, after, leave_out, start)


def _teachers(network: PlannedNetwork, fold: int) -> tuple[str, ...]:
    """Returns the runs that teach a fold: together they held back every image that it learns."""
    each = (_inner_names(teacher, network.folds, fold) for teacher in network.teachers)
    return tuple(chain.from_iterable(each))


def _inner_names(teacher: str, folds: int, fold: int) -> tuple[str, ...]:
    without = f"{teacher}-without{fold + 1}of{folds}"
    return tuple(f"{without}-fold{k + 1}of{_INNER_FOLDS}" for k in range(_INNER_FOLDS))


def _fold_names(network: PlannedNetwork) -> tuple[str, ...]:
    if not network.folds:
        return (f"{network.name}-holdout",)
    return tuple(f"{network.name}-fold{k + 1}of{network.folds}" for k in range(network.folds))


@contextmanager
def _naming(network: object) -> Iterator[None]:
    """Says of which network a refusal is."""
    try:
        yield
    except ConfigError as error:
        found = f"network {network}: {error.found}"
        raise ConfigError(found, expected=error.expected, action=error.action) from error


def _read_network(table: object, folds: int) -> PlannedNetwork:
    if not isinstance(table, Mapping) or "preset" not in table:
        raise ConfigError("a network of the plan has no preset", expected='preset = "..."')
    with _naming(table.get("name") or table["preset"]):
        network = build_record(PlannedNetwork, table, within="network")
        if "folds" in table:
            _check_folds("network.folds", network.folds)
    name = network.name or Path(network.preset).stem
    return replace(network, name=name, folds=network.folds if "folds" in table else folds)


def _check_folds(key: str, folds: int) -> None:
    if not 0 <= folds <= _MOST_FOLDS or folds == 1:
        raise ConfigError(
            f"{key} is {folds}", expected=f"0 (one hold-out), or from 2 to {_MOST_FOLDS}"
        )


def _config(network: PlannedNetwork, folder: Path | None) -> Config:
    """Returns a network's recipe under its own name."""
    preset = network.preset
    if preset.endswith(".toml") and folder is not None:
        preset = str(folder / preset)
    with _naming(network.name):
        config = find_config(preset)
        given = [assignment.partition("=")[0].strip() for assignment in network.set]
        given += [key for key in _OWNED if _setting(config, key) != _setting(Config(), key)]
        if owned := [key for key in given if key in _OWNED]:
            raise ConfigError(
                f"it sets {owned[0]}",
                expected="keys that the plan does not set itself",
                action="Use folds and teachers of the plan",
            )
        return replace(config.override(network.set), name=network.name)


def _setting(config: Config, key: str) -> object:
    table, _, name = key.partition(".")
    return getattr(getattr(config, table), name)


def _check(plan: ReleasePlan) -> None:
    names = [one.name.casefold() for one in plan.networks]  # of folders, on any system
    for network in plan.networks:
        if names.count(network.name.casefold()) > 1:
            raise ConfigError(
                f'two networks of the plan are called "{network.name}"',
                expected="a name for each",
                action="Give one of them a name of its own with: name",
            )
        _check_name(network.name)
        _check_whole(network)
        _check_start(network, plan)
        _check_teachers(network, plan)
    _check_circles(plan)
    _check_ships(plan)


def _check_name(name: str) -> None:
    """Refuses what cannot be the name of runs and of a network of a release."""
    expected = "the name of a folder, on any system"
    ending = _RUN_ENDING.search(name)
    if ending:
        expected = f"a name that does not end in {ending[0]}, as those of its runs and files do"
    elif name.lower() in RESERVED:
        expected = f"a name other than {', '.join(sorted(RESERVED))}"
    elif is_file_name(name):
        if len(name.encode()) <= _MOST_NAME_BYTES:
            return
        expected = f"{_MOST_NAME_BYTES} bytes or less"
    raise ConfigError(f"network.name is {show_value(name)}", expected=expected)


def _check_whole(network: PlannedNetwork) -> None:
    if not network.whole and (network.folds or not network.ships):
        raise ConfigError(
            f"{network.name} has whole = false"
            + (f" with {network.folds} folds" if network.folds else " and does not ship"),
            expected="that of a network that ships and is trained with one hold-out (folds = 0)",
            action="Leave whole out",
        )


def _check_start(network: PlannedNetwork, plan: ReleasePlan) -> None:
    if not network.start:
        return
    first = _named(network.start, plan, f"{network.name} starts from")
    if network.folds != first.folds or (network.whole and not first.whole):
        raise ConfigError(
            f"{network.name} starts from {network.start}, and they hold back different images",
            expected="the same folds of both, and whole = false of both or of the one that starts",
            action="Set them, or leave start out",
        )
    one, other = plan.configs[network.name].model, plan.configs[first.name].model
    if (one.network, one.backbone) != (other.network, other.backbone):
        raise ConfigError(
            f"{network.name} ({one.network}, {one.backbone}) starts from {network.start}"
            f" ({other.network}, {other.backbone})",
            expected="the same network on the same backbone",
            action="Start from another one, or leave start out",
        )
    _check_split(network, first, plan, f"{network.name} starts from {network.start}")
    if network.teachers or network.name in {n for one in plan.networks for n in one.teachers}:
        raise ConfigError(
            f"{network.name} starts from {network.start} and is taught or teaches",
            expected="a network that learns from labels alone and teaches none",
            action="Leave start out",
        )


def _check_split(one: PlannedNetwork, other: PlannedNetwork, plan: ReleasePlan, found: str) -> None:
    """Refuses two networks whose folds of one number, or whose hold-outs, are of other images."""
    fraction = () if one.folds else ("data.validation_fraction",)
    for key in ("train.seed", "data.exclude_test_duplicates", *fraction):
        a, b = (_setting(plan.configs[each.name], key) for each in (one, other))
        if a != b:
            raise ConfigError(
                f"{found}, and they hold back different images ({key} is {a} and {b})",
                expected="one split of the images",
                action=f"Set {key} of one of them",
            )


def _check_teachers(network: PlannedNetwork, plan: ReleasePlan) -> None:
    if twice := [name for name in network.teachers if network.teachers.count(name) > 1]:
        raise ConfigError(
            f"{network.name} is taught by {twice[0]} twice", expected="each teacher once"
        )
    for name in network.teachers:
        teacher = _named(name, plan, f"{network.name} is taught by")
        tasks = [plan.configs[each].model.task for each in (network.name, name)]
        if any(answers(tasks[0]) and not answers(tasks[1]) for answers in (has_scores, has_masks)):
            raise ConfigError(
                f"{network.name} ({tasks[0]}) is taught by {name} ({tasks[1]})",
                expected="teachers that answer what their pupil learns",
                action="Name another teacher",
            )
        _check_split(network, teacher, plan, f"{network.name} is taught by {name}")
        for one in (network, teacher):
            if not one.folds:
                raise ConfigError(
                    f"{network.name} is taught by {name}, and {one.name} has one hold-out",
                    expected="both in folds, so that every image has a teacher that held it back",
                    action=f"Set folds of {one.name} to 2 or more",
                )
        if teacher.teachers:
            raise ConfigError(
                f"{network.name} is taught by {name}, which is taught itself",
                expected="teachers that learn from labels alone",
                action=f"Name the teachers of {name}",
            )


def _named(name: str, plan: ReleasePlan, found: str) -> PlannedNetwork:
    """Returns the network of that name, or refuses the plan that names it so."""
    by_name = {one.name: one for one in plan.networks}
    if name not in by_name:
        raise ConfigError(
            f'{found} "{name}", which is no network of the plan',
            expected=f"one of {', '.join(by_name)}",
            action=did_you_mean(name, by_name),
        )
    return by_name[name]


def _check_circles(plan: ReleasePlan) -> None:
    waits = {one.name: [*one.teachers, *filter(None, [one.start])] for one in plan.networks}
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        raise ConfigError(
            f"{', '.join(sorted(set(error.args[1])))} wait for each other in a circle",
            expected="networks that can be trained before those they teach or start",
        ) from error


def _check_ships(plan: ReleasePlan) -> None:
    shipped = {n.name: plan.configs[n.name].model.task for n in plan.networks if n.ships}
    tasks = list(shipped.values())
    if "joint" in tasks or not {"classification", "segmentation"} <= set(tasks):
        raise ConfigError(
            f"the plan ships {', '.join(f'{name} ({task})' for name, task in shipped.items())}"
            if shipped
            else "the plan ships no network",
            expected="one or more networks that score and one or more that outline",
        )
    for name in shipped:
        if (fit := plan.configs[name].data.fit) != "squeeze":
            raise ConfigError(
                f"{name} ships with data.fit {fit}",
                expected="squeeze, as an analysis fits a frame to the square",
                action="Set data.fit=squeeze",
            )
    scoring = [n for n in plan.networks if shipped.get(n.name) == "classification"]
    folds = {n.folds for n in scoring}
    if len(folds) > 1:
        raise ConfigError(
            f"the networks that score ship with {' and '.join(map(str, sorted(folds)))} folds",
            expected="one number of folds, for they are fused on the same held-back images",
        )
    for other in scoring[1:]:
        _check_split(scoring[0], other, plan, f"{scoring[0].name} and {other.name} score together")
