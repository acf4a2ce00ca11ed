from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dermfuse.config import ConfigError
from dermfuse.publishing.plan import parse_plan, plan_names, plan_runs, read_plan
from dermfuse.training.jobs import Workplace, train_command
from dermfuse.training.samples import select_lesions

COSINE = ["train.schedule=cosine"]
SEED = [*COSINE, "train.seed=1"]
PLACE = Workplace(Path("out"), Path("data"), None)


def _plan(*networks: dict[str, Any], **head: Any) -> dict[str, Any]:
    return {"name": "tiny", **head, "network": list(networks)}


def _network(preset: str, **more: Any) -> dict[str, Any]:
    return {"preset": preset, "set": COSINE, **more}


_scores, _outlines = partial(_network, "dc-mobilenetv1"), partial(_network, "u-mobilenetv1")


def test_a_network_needs_its_folds_and_if_it_ships_one_on_all_images() -> None:
    teacher = _network("dc-densenet121", name="large", ships=False, folds=2, leave_out=False)
    pupil = _scores(name="small", teachers=["large"])
    outlines = _outlines(folds=0, set=[*COSINE, "train.epochs=5"])
    plan = parse_plan(_plan(teacher, pupil, outlines, looks=4))
    assert (plan.name, plan.precision, plan.looks, plan.folds) == ("tiny", "int8-weights", 4, 3)
    large, small, masks = plan_runs(plan, PLACE, leave_out=Path("list.csv"))
    inner = [f"large-without{outer}of3-fold{k}of2" for outer in (1, 2, 3) for k in (1, 2)]
    folds = [f"small-fold{k}of3" for k in (1, 2, 3)]
    assert [run.name for run in large.all] == [*inner, "large-fold1of2", "large-fold2of2"]
    assert [run.name for run in small.all] == [*folds, "small"]
    assert [run.name for run in masks.all] == ["u-mobilenetv1-holdout", "u-mobilenetv1"]
    assert [run.config.data.fold for run in small.folds] == [0, 1, 2]
    whole = small.whole.config
    assert (whole.data.split, whole.name, large.whole) == ("all", "small", None)
    assert masks.folds[0].config.train.epochs == 5
    assert small.whole.after == ("large-fold1of2", "large-fold2of2")
    assert [run.after for run in small.folds] == list(zip(inner[::2], inner[1::2], strict=True))
    for run in small.all:
        teachers = [Path(teacher) for teacher in run.config.train.teachers]
        assert tuple(teacher.name for teacher in teachers) == run.after
        assert teachers[0].is_absolute()
        assert run.leave_out == Path("list.csv")
    assert large.folds[0].leave_out is None


def test_a_hold_out_may_ship_itself_and_start_from_another() -> None:
    first = _outlines(name="first", folds=0, ships=False)
    then = _outlines(name="then", folds=0, whole=False, start="first")
    masks = plan_runs(parse_plan(_plan(_scores(), first, then)), PLACE)[2]
    (run,) = masks.all
    assert (masks.whole, run.name) == (masks.folds[0], "then-holdout")
    assert (run.start, run.after) == ("first-holdout", ("first-holdout",))
    assert run.config.train.teachers == ()
    command = train_command(run, PLACE)
    assert command[command.index("--from") + 1] == "out/runs/first-holdout"


def test_each_fold_starts_from_the_fold_of_the_same_images() -> None:
    first, then = _scores(name="first", ships=False), _scores(name="then", start="first")
    begun, runs, _ = plan_runs(parse_plan(_plan(first, then, _outlines(), folds=2)), PLACE)
    assert begun.whole is None
    names = ("first-fold1of2", "first-fold2of2", "first")
    assert [run.name for run in begun.all] == [names[2], *names[:2]]
    assert [run.name for run in runs.all] == [name.replace("first", "then") for name in names]
    assert [(run.start, run.after) for run in runs.all] == [(name, (name,)) for name in names]
    for one, other in zip(begun.folds, runs.folds, strict=True):
        assert one.config.data == other.config.data


def test_a_fold_s_teachers_never_saw_what_it_holds_back(drawn: Path) -> None:
    teacher = _network("dc-densenet121", name="large", ships=False)
    plan = parse_plan(_plan(teacher, _scores(name="small", teachers=["large"]), _outlines()))
    large, small, _ = plan_runs(plan, PLACE)
    by_name = {run.name: select_lesions(drawn, run.config).split for run in large.all}
    for run in small.folds:
        own = select_lesions(drawn, run.config).split
        teachers = [by_name[name] for name in run.after]
        for split in teachers:
            assert not set(own.validation) & {*split.train, *split.validation}
        taught = [image_id for split in teachers for image_id in split.validation]
        assert sorted(taught) == sorted(own.train)


def test_a_plan_is_a_file_and_its_own_presets_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[train]\nepochs = 3\nschedule = "cosine"\n')
    path, tables = tmp_path / "plan.toml", ("mine.toml", "u-mobilenetv1-cosine")
    networks = "".join(f'[[network]]\npreset = "{preset}"\n' for preset in tables)
    path.write_text(f'name = "mine"\nfolds = 2\n{networks}')
    plan = read_plan(str(path))
    assert plan.configs["mine"].train.epochs == 3
    assert [network.folds for network in plan.networks] == [2, 2]
    (tmp_path / "mine.toml").write_text("[data]\nfolds = 5\n")
    with pytest.raises(ConfigError, match=r"network mine: it sets data\.folds"):
        read_plan(str(path))
    path.write_text("name =")
    for name, message in (
        (str(path), "cannot be read"),
        ("none.toml", "is missing"),
        ("shiped", r'no plan is called "shiped".*Did you mean "shipped"'),
    ):
        with pytest.raises(ConfigError, match=message):
            read_plan(name)


@pytest.mark.parametrize("name", plan_names())
def test_every_plan_of_the_package_can_be_trained(name: str) -> None:
    runs = [run.name for network in plan_runs(read_plan(name), PLACE) for run in network.all]
    assert len(set(runs)) == len(runs)


FIRST = {"name": "first", "folds": 0, "ships": False}
THEN = {"name": "then", "folds": 0, "whole": False, "start": "first"}
FIRST_WHOLE, BEGUN = _outlines(name="first", folds=0, whole=False), _scores(name="b")
TAUGHT, TEACHER = _scores(name="a", teachers=["b"]), _network("dc-mobilenetv2", name="b")


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([_scores(ship=True)], r'no key "network.ship".*"ships"'),
        ([_scores(set=["data.fold=2"])], "network dc-mobilenetv1: it sets data.fold"),
        ([_network("dc-mobilenet1")], 'no preset is called "dc-mobilenet1"'),
        ([_scores(), _scores()], 'two networks of the plan are called "dc-mobilenetv1"'),
        ([_scores(name="../x")], r"network.name is '\.\./x'"),
        ([_scores(name="a\\b")], "the name of a folder, on any system"),
        ([_scores(name="Release")], "a name other than build, dermoscopy, release"),
        ([_scores(name="x" * 181)], "180 bytes or less"),
        ([_scores(name="b-without1of3")], "a name that does not end in -without1of3"),
        ([_scores(name="b-int8-weights")], "a name that does not end in -int8-weights"),
        ([_scores(name="a"), _scores(name="A")], 'two networks of the plan are called "a"'),
        ([_scores(name="b", folds=1001)], "network b: network.folds is 1001.*from 2 to 1000"),
        ([_scores(name="b", set=["train.epoch=1"])], "network b: there is no key"),
        ([_scores(teachers=["u-mobilenetv"])], 'mean "u-mobilenetv1"'),
        ([], r"the plan ships u-mobilenetv1 \(segmentation\)"),
        ([_scores(), _network("dc-mobilenetv2", folds=5)], "ship with 3 and 5 folds"),
        ([_scores(set=["data.fit=letterbox"])], "data.fit letterbox"),
        ([_scores(whole=False)], "whole = false with 3 folds"),
        ([_scores(folds=0, whole=False, ships=False)], "whole = false and does not ship"),
        ([TAUGHT, {**TEACHER, "folds": 0}], "a is taught by b, and b has one hold-out"),
        ([TAUGHT, {**TEACHER, "teachers": ["a"]}], "a is taught by b, which is taught itself"),
        ([_outlines(**FIRST), _outlines(**{**THEN, "start": "frist"})], 'Did you mean "first"'),
        ([_outlines(**{**FIRST, "folds": 3}), _outlines(**THEN)], "hold back different images"),
        ([_outlines(**{**THEN, "start": "then"})], "wait for each other in a circle"),
        ([FIRST_WHOLE, {**_outlines(**THEN), "whole": True}], "hold back different images"),
        ([BEGUN, _scores(name="a", start="b", teachers=["b"])], "starts from b and is taught or"),
        (
            [BEGUN, _network("dc-mobilenetv2", name="a", start="b")],
            r"a \(.*v2\) starts from b \(.*v1",
        ),
        (
            [BEGUN, {**_scores(name="a", start="b"), "set": SEED}],
            "a starts from b, and.*seed is 1 and",
        ),
        (
            [BEGUN, {**_scores(name="a"), "set": SEED}],
            "b and a score together.*train.seed is 0 and 1",
        ),
        ([TEACHER, {**TAUGHT, "set": SEED}], "a is taught by b, and.*train.seed is 1 and 0"),
        ([TEACHER, {**TAUGHT, "teachers": ["b", "b"]}], "a is taught by b twice"),
        (
            [{**TAUGHT, "teachers": ["u-mobilenetv1"]}],
            r"a \(classification\) is taught by u-mobile",
        ),
    ],
)
def test_networks_that_are_no_plan_are_refused(networks: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_plan(_plan(*networks, _outlines()))


def test_a_plan_that_cannot_be_is_refused() -> None:
    both = (_scores(), _outlines())
    for mapping, message in (
        (_plan(*both, look=4), r'no key "plan.look".*Did you mean "looks"'),
        (_plan(*both, weights="mean"), "plan.weights is 'mean'.*one of fitted, equal"),
        (_plan(*both, looks=3), "plan.looks is 3.*one of 1, 4, 8"),
        (_plan(*both, folds=1), "plan.folds is 1"),
        ({"name": "x"}, "the plan has no network"),
        ({"network": [*both]}, "the plan has no name"),
        ({"name": "x", "networks": [*both]}, r"the plan has no network.*\[\[network\]\]"),
        ({**_plan(*both), "name": " "}, "plan.name is ' '"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_plan(mapping)
    plateau = parse_plan(_plan({"preset": "dc-mobilenetv1"}, _outlines()))
    said = r'network dc-mobilenetv1: train.schedule is "plateau" with data.split "all"'
    with pytest.raises(ConfigError, match=said):
        plan_runs(plateau, PLACE)
