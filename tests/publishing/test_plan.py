from pathlib import Path
from typing import Any

import pytest

from dermfuse.config import ConfigError
from dermfuse.jobs.trainings import Workplace, train_command
from dermfuse.publishing.plan import parse_plan, plan_names, plan_runs, read_plan
from dermfuse.training.samples import select_lesions

COSINE = ["train.schedule=cosine"]
PLACE = Workplace(Path("out"), Path("data"), None)


def _plan(*networks: dict[str, Any], **head: Any) -> dict[str, Any]:
    return {"name": "tiny", **head, "network": list(networks)}


def _network(preset: str, **more: Any) -> dict[str, Any]:
    return {"preset": preset, "set": COSINE, **more}


SCORES, OUTLINES = _network("dc-mobilenetv1"), _network("u-mobilenetv1")
HIDDEN = {"whole": False, "ships": False}
HELD_OUT = _network("dc-densenet121", name="b", ships=False, folds=0)


def test_a_network_needs_its_folds_and_if_it_ships_one_on_all_images() -> None:
    teacher = _network("dc-densenet121", name="large", ships=False, folds=2, leave_out=False)
    pupil = _network("dc-mobilenetv1", name="small", teachers=["large"])
    outlines = {**OUTLINES, "folds": 0, "set": [*COSINE, "train.epochs=5"]}
    plan = parse_plan(_plan(teacher, pupil, outlines, looks=4))
    assert (plan.name, plan.precision, plan.looks, plan.folds) == ("tiny", "int8-weights", 4, 3)
    large, small, masks = plan_runs(plan, PLACE, leave_out=Path("list.csv"))
    assert [run.name for run in large.folds] == ["large-fold1of2", "large-fold2of2"]
    assert [run.name for run in large.inner] == [
        f"large-without{outer}of3-fold{fold}of2" for outer in (1, 2, 3) for fold in (1, 2)
    ]
    assert [run.name for run in small.all] == [
        "small-fold1of3", "small-fold2of3", "small-fold3of3", "small",
    ]  # fmt: skip
    assert [run.name for run in masks.all] == ["u-mobilenetv1-holdout", "u-mobilenetv1"]
    assert [run.config.data.fold for run in small.folds] == [0, 1, 2]
    assert small.whole is not None
    assert small.whole.config.data.split == "all"
    assert small.whole.config.name == "small"
    assert masks.folds[0].config.train.epochs == 5
    assert large.whole is None
    assert small.whole.after == ("large-fold1of2", "large-fold2of2")
    for number, run in enumerate(small.folds, start=1):
        assert run.after == tuple(f"large-without{number}of3-fold{fold}of2" for fold in (1, 2))
    for run in small.all:
        names = [Path(teacher).name for teacher in run.config.train.teachers]
        assert tuple(names) == run.after
        assert Path(run.config.train.teachers[0]).is_absolute()
        assert run.leave_out == Path("list.csv")
    assert large.folds[0].leave_out is None


def test_a_hold_out_may_ship_itself() -> None:
    plan = parse_plan(_plan(SCORES, {**OUTLINES, "folds": 0, "whole": False}))
    masks = plan_runs(plan, PLACE)[1]
    assert masks.whole == masks.folds[0]
    assert [run.name for run in masks.all] == ["u-mobilenetv1-holdout"]


def test_a_hold_out_may_start_from_another_hold_out() -> None:
    first = {**OUTLINES, "name": "first", "folds": 0, "ships": False}
    then = {**OUTLINES, "name": "then", "folds": 0, "whole": False, "start": "first"}
    run = plan_runs(parse_plan(_plan(SCORES, first, then)), PLACE)[2].all[0]
    assert (run.start, run.after) == ("first-holdout", ("first-holdout",))
    assert run.config.train.teachers == ()
    command = train_command(run, PLACE)
    assert command[command.index("--from") + 1] == "out/runs/first-holdout"


def test_each_fold_starts_from_the_fold_of_the_same_images() -> None:
    first = {**SCORES, "name": "first", "ships": False}
    then = {**SCORES, "name": "then", "start": "first"}
    begun, runs, _ = plan_runs(parse_plan(_plan(first, then, OUTLINES, folds=2)), PLACE)
    assert begun.whole is None
    assert [run.name for run in begun.all] == ["first", "first-fold1of2", "first-fold2of2"]
    assert [(run.name, run.start) for run in runs.all] == [
        ("then-fold1of2", "first-fold1of2"), ("then-fold2of2", "first-fold2of2"), ("then", "first"),
    ]  # fmt: skip
    assert all(run.after == (run.start,) for run in runs.all)
    for one, other in zip(begun.folds, runs.folds, strict=True):
        assert (one.config.data.folds, one.config.data.fold) == (
            other.config.data.folds,
            other.config.data.fold,
        )


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({}, {"start": "frist"}, 'starts from "frist".*Did you mean "first"'),
        ({"folds": 3}, {"start": "first"}, "they hold back different images"),
        (
            {"whole": False, "ships": True},
            {"whole": True, "start": "first"},
            "they hold back different images",
        ),
        (
            {"folds": 2},
            {"folds": 2, "whole": True, "start": "first", "teachers": ["first"]},
            "starts from first and is taught or teaches",
        ),
        ({}, {"start": "then"}, "wait for each other in a circle"),
    ],
)
def test_a_start_that_cannot_be_is_refused(
    first: dict[str, Any], then: dict[str, Any], message: str
) -> None:
    one = {**OUTLINES, "name": "first", "folds": 0, "ships": False, **first}
    two = {**OUTLINES, "name": "then", "folds": 0, "whole": False, **then}
    with pytest.raises(ConfigError, match=message):
        parse_plan(_plan(SCORES, one, two))


def test_a_plan_is_a_file_and_its_own_presets_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[train]\nepochs = 3\nschedule = "cosine"\n')
    (tmp_path / "plan.toml").write_text(
        'name = "mine"\nfolds = 2\n[[network]]\npreset = "mine.toml"\n'
        '[[network]]\npreset = "u-mobilenetv1-cosine"\n'
    )
    plan = read_plan(str(tmp_path / "plan.toml"))
    assert plan.configs["mine"].train.epochs == 3
    assert [network.folds for network in plan.networks] == [2, 2]


@pytest.mark.parametrize("name", plan_names())
def test_every_plan_of_the_package_can_be_trained(name: str) -> None:
    plan = read_plan(name)
    runs = [run for network in plan_runs(plan, PLACE) for run in network.all]
    assert len({run.name for run in runs}) == len(runs)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (_plan(SCORES, OUTLINES, look=4), r'no key "plan.look".*Did you mean "looks"'),
        (_plan(SCORES, OUTLINES, looks=3), "plan.looks is 3.*one of 1, 4, 8"),
        (_plan(SCORES, OUTLINES, folds=1), "plan.folds is 1"),
        (_plan({**SCORES, "ship": True}, OUTLINES), r'no key "network.ship".*"ships"'),
        (_plan({**SCORES, "folds": -1}, OUTLINES), "network.folds is -1"),
        (_plan({**SCORES, "set": "x"}, OUTLINES), "network.set is 'x'.*a list"),
        (_plan({**SCORES, "set": ["data.fold=2"]}, OUTLINES), "sets data.fold"),
        (_plan({**SCORES, "set": ["train.epoch=2"]}, OUTLINES), 'no key "train.epoch"'),
        (_plan(_network("dc-mobilenet1"), OUTLINES), 'no preset is called "dc-mobilenet1"'),
        (_plan(SCORES, SCORES, OUTLINES), 'two networks of the plan are called "dc-mobilenetv1"'),
        (_plan({**SCORES, "name": "../x"}, OUTLINES), r'network.name is "\.\./x"'),
        (_plan({**SCORES, "teachers": ["u-mobilenetv"]}, OUTLINES), 'mean "u-mobilenetv1"'),
        (_plan(SCORES), "the plan ships dc-mobilenetv1"),
        (_plan({**SCORES, "ships": False}, {**OUTLINES, "ships": False}), "ships no network"),
        (_plan(SCORES, OUTLINES, _network("joint-mobilenetv1")), r"joint-mobilenetv1 \(joint\)"),
        (_plan(SCORES, OUTLINES, _network("dc-mobilenetv2", folds=5)), "ship with 3 and 5 folds"),
        (_plan(SCORES, {**OUTLINES, "set": [*COSINE, "data.fit=letterbox"]}), "data.fit letterbox"),
        (_plan(SCORES, {**OUTLINES, "whole": False}), "whole = false with 3 folds"),
        (
            _plan(SCORES, OUTLINES, {**OUTLINES, "name": "x", "folds": 0, **HIDDEN}),
            "whole = false and does not ship",
        ),
        (
            _plan(_network("dc-mobilenetv1", name="a", teachers=["b"]), HELD_OUT, OUTLINES),
            "a is taught by b, and b has one hold-out",
        ),
        (
            _plan(
                _network("dc-mobilenetv1", name="a", teachers=["b"]),
                _network("dc-mobilenetv2", name="b", teachers=["c"]),
                _network("dc-densenet121", name="c", teachers=["a"]),
                OUTLINES,
            ),
            "a is taught by b, which is taught itself",
        ),
        ({"name": "x"}, "the plan has no network"),
        ({"network": [SCORES]}, "the plan has no name"),
        (_plan({"name": "a"}), "a network of the plan has no preset"),
    ],
)
def test_what_is_no_plan_is_refused(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_plan(mapping)


def test_a_fold_s_teachers_never_saw_what_it_holds_back(drawn: Path) -> None:
    teacher = _network("dc-densenet121", name="large", ships=False)
    plan = parse_plan(_plan(teacher, {**SCORES, "name": "small", "teachers": ["large"]}, OUTLINES))
    large, small, _ = plan_runs(plan, PLACE)
    by_name = {run.name: select_lesions(drawn, run.config).split for run in large.all}
    for run in small.folds:
        own = select_lesions(drawn, run.config).split
        teachers = [by_name[name] for name in run.after]
        for split in teachers:
            assert not set(own.validation) & {*split.train, *split.validation}
        taught = [image_id for split in teachers for image_id in split.validation]
        assert sorted(taught) == sorted(own.train)


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'no plan is called "shiped".*Did you mean "shipped"'):
        read_plan("shiped")
    with pytest.raises(ConfigError, match="is missing"):
        read_plan(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("name =")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(str(tmp_path / "bad.toml"))


def test_a_recipe_that_cannot_be_trained_on_all_images_is_refused() -> None:
    plan = parse_plan(_plan({"preset": "dc-mobilenetv1"}, OUTLINES))
    with pytest.raises(ConfigError, match=r'train.schedule is "plateau" with data.split "all"'):
        plan_runs(plan, PLACE)
