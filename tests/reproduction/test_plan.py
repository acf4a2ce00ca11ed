import pytest

from dermfuse.config import load_preset, preset_names
from dermfuse.errors import ConfigError
from dermfuse.reproduction.plan import CHOICES, beyond_tables, changes, identity, make_plan


def test_a_run_that_two_tables_need_is_there_once() -> None:
    iii, v = (make_plan([number], folds=0) for number in ("III", "V"))
    both = make_plan(["III", "V"], folds=0)
    assert len(iii.runs) == 5
    assert [run.name for run in v.runs] == [
        "mobilenetv1-seed0-holdout",
        "densenet121-seed0-holdout",
        "dc-mobilenetv1-seed0-holdout",
        "dc-densenet121-seed0-holdout",
    ]
    assert len(both.runs) == 7, "the two baselines are shared"
    fused = make_plan(["XI"], folds=0)
    assert [run.preset for run in fused.runs] == ["u-mobilenetv1", "u-densenet121"]


def test_the_whole_paper_needs_each_preset_once_per_seed_and_fold() -> None:
    plan = make_plan(CHOICES[:-2], seeds=2, folds=5)  # but for leakage and beyond
    presets = [name for name in preset_names() if load_preset(name).summary.startswith("Table")]
    assert len(plan.runs) == len(presets) * 2 * 5
    assert {run.config.train.seed for run in plan.runs[: len(presets) * 5]} == {0}
    runs = plan.needs["u-vgg16", 1]
    assert [run.config.data.fold for run in runs] == [0, 1, 2, 3, 4]
    assert runs[4].name == "u-vgg16-seed1-fold5of5"


def test_equal_configurations_are_one_run_under_two_names() -> None:
    plan = make_plan(["IV"], folds=0, overrides=["augment.enabled=false"])
    assert [run.name for run in plan.runs] == [
        "mobilenetv1-noaug-seed0-holdout",
        "densenet121-noaug-seed0-holdout",
    ]
    assert plan.needs["mobilenetv1", 0] == plan.needs["mobilenetv1-noaug", 0]


def test_the_leakage_pair_differs_in_the_papers_protocol_alone_and_shares_the_hold_out_run() -> (
    None
):
    plan = make_plan(["V", "leakage"], folds=0)
    paper, source = plan.leakage_pairs["dc-mobilenetv1"]
    assert source == plan.needs["dc-mobilenetv1", 0][0]
    a, b = identity(paper.config), identity(source.config)
    assert (a["data"].pop("split"), b["data"].pop("split")) == ("paper", "source")
    kept = "exclude_test_duplicates"
    assert (a["data"].pop(kept), b["data"].pop(kept)) == (False, True)
    assert a == b
    changed = make_plan(["leakage"], folds=5, overrides=["data.exclude_test_duplicates=true"])
    assert [run.config.data.folds for run in changed.runs] == [0, 0, 0, 0]
    assert all(run.config.data.exclude_test_duplicates for run in changed.runs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tables": ["VIIII"]}, r'no table is called "VIIII".*Did you mean "VIII"'),
        ({"tables": ["iii"]}, r'Did you mean "III"'),
        ({"tables": []}, "no table is named"),
        ({"seeds": 0}, "seeds is 0"),
        ({"folds": 1}, "folds is 1"),
        ({"overrides": ["train.seed=4"]}, r"sets what the plan sets itself.*Use --seeds"),
        ({"overrides": ["data.split=all"]}, r"sets what the plan sets.*train for data.split=all"),
        ({"overrides": ["u-vgg:train.epochs=1"]}, r'no preset is called "u-vgg".*"u-vgg16"'),
        ({"minimum_learning_rate": 11.0}, r"train\.minimum_learning_rate is"),
        ({"mask_folds": 1}, "mask_folds is 1"),
        ({"overrides": ["v-*:train.epochs=1"]}, r'no preset is called "v-\*"'),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(**{"tables": ["V"], **arguments})  # type: ignore[arg-type]


def test_variations_are_set_against_the_papers_own_network() -> None:
    for table, base in zip(
        beyond_tables(seeds=1, folds_on_test=False),
        ("dc-mobilenetv1", "u-mobilenetv1"),
        strict=True,
    ):
        assert table.sources[:2] == (base, f"{base}-blind")
        assert table.sources[-2:] == ("joint-mobilenetv1", f"{base}+tta")
    more, _ = beyond_tables(seeds=3, folds_on_test=True)
    assert more.sources[-2:] == ("dc-mobilenetv1+seeds", "dc-mobilenetv1+folds")
    assert {contrast.control for contrast in more.contrasts} == {"dc-mobilenetv1"}


def test_masks_may_be_held_out_while_classes_are_cross_validated() -> None:
    plan = make_plan(["IV", "IX", "XI"], folds=3, mask_folds=0)
    assert len(plan.needs["mobilenetv1", 0]) == 3
    assert [run.name for run in plan.needs["u-mobilenetv1", 0]] == ["u-mobilenetv1-seed0-holdout"]
    assert [plan.folds_of(s) for s in ("mobilenetv1", "u-mobilenetv1+tta", "fusion-u")] == [3, 0, 0]


def test_an_override_may_be_for_one_preset_or_for_those_of_a_pattern() -> None:
    overrides = ["data.input_size=128", "u-*:data.input_size=96", "u-vgg16:model.init=random"]
    plan = make_plan(["III", "VIII"], folds=0, overrides=overrides)
    changed = {run.preset: changes(run) for run in plan.runs}
    assert changed["mobilenetv1"] == ["data.input_size = 128"]
    assert changed["u-densenet121"] == ["data.input_size = 96"]
    assert changed["u-vgg16"] == ["data.input_size = 96", "model.init = random"]
    assert changed["unet"] == ["data.input_size = 128"]


def test_some_presets_can_be_trained_alone() -> None:
    plan = make_plan(["III", "V"], folds=2)
    chosen = plan.runs_to_train(["dc-*", "squeezenet"])
    assert {run.preset for run in chosen} == {"dc-mobilenetv1", "dc-densenet121", "squeezenet"}
    assert len(chosen) == 6
    assert plan.runs_to_train() == plan.runs
    with pytest.raises(ConfigError, match='no planned preset is called "u-vgg16"'):
        plan.runs_to_train(["u-vgg16"])


def test_the_smallest_rate_is_that_of_all_plateau_runs_that_name_none() -> None:
    overrides = ["densenet121:train.minimum_learning_rate=1e-6", "squeezenet:train.schedule=cosine"]
    plan = make_plan(["III"], folds=0, overrides=overrides, minimum_learning_rate=2e-6)
    rates = {run.preset: run.config.train.minimum_learning_rate for run in plan.runs}
    assert rates.pop("densenet121") == 1e-6
    assert rates.pop("squeezenet") == 0, "the cosine ends by itself"
    assert set(rates.values()) == {2e-6}
    assert plan.overrides == (*overrides, "train.minimum_learning_rate=2e-06")
    (run,) = (run for run in plan.runs if run.preset == "mobilenetv1")
    assert "train.minimum_learning_rate = 2e-06" in changes(run)
    assert make_plan(["III"], folds=0).overrides == ()
