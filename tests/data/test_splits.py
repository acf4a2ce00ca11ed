from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermfuse.config import AugmentConfig, DataConfig
from dermfuse.data.augment import classification_plan
from dermfuse.data.isic2016 import TRAIN_DUPLICATES, Label, Lesion
from dermfuse.data.splits import Split, read_split, split_by_source, split_rows, write_split
from dermfuse.errors import DataError, RunError

Group = tuple[int, Label | None]
"""How many images a group has, and their label."""
BENIGN, MALIGNANT = (1, Label.BENIGN), (1, Label.MALIGNANT)


def _grouped(*groups: Group) -> list[Lesion]:
    """Lesions of groups, with ids in turn."""
    lesions: list[Lesion] = []
    for count, label in groups:
        first = f"ISIC_{len(lesions):07d}"
        for _ in range(count):
            image_id = f"ISIC_{len(lesions):07d}"
            lesions.append(Lesion(image_id, Path(f"{image_id}.jpg"), None, label, first))
    return lesions


def _lesions(benign: int, malignant: int) -> list[Lesion]:
    """Lesions that no group names."""
    lesions = _grouped(*[BENIGN] * benign, *[MALIGNANT] * malignant)
    return [replace(lesion, lesion_group="") for lesion in lesions]


def test_a_hold_out_split_is_stratified_by_label_and_drawn_by_the_seed() -> None:
    lesions = _lesions(727, 173)
    split, again, other = (split_by_source(lesions, DataConfig(), seed=seed) for seed in (0, 0, 1))
    label = {lesion.image_id: lesion.label for lesion in lesions}
    assert len(split.validation) == 145 + 35
    assert sum(label[i] == Label.MALIGNANT for i in split.validation) == 35
    assert sorted([*split.train, *split.validation]) == sorted(label)
    assert split == again != other
    fewer = split_by_source(lesions[1:], DataConfig(), seed=0)
    assert len(set(split.validation) ^ set(fewer.validation)) <= 2, "no other image moves far"


def test_two_files_of_one_photograph_stay_on_one_side_with_whoever_is_in_their_groups() -> None:
    first, second = (Lesion(i, Path(f"{i}.jpg"), None, Label.BENIGN) for i in TRAIN_DUPLICATES[0])
    mate = replace(first, image_id="ISIC_0000100", lesion_group="ISIC_0000100")
    trio = [mate, first, replace(second, lesion_group=mate.image_id)]
    for together in ([first, second], trio):
        ids = {lesion.image_id for lesion in together}
        configs = [DataConfig(), *(DataConfig(folds=5, fold=fold) for fold in range(5))]
        for config, seed in ((config, seed) for config in configs for seed in range(5)):
            held = split_by_source([*_lesions(8, 4), *together], config, seed=seed).validation
            assert len(ids & set(held)) in {0, len(ids)}


@settings(max_examples=40)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.sampled_from([*Label, None])), min_size=12),
    folds=st.sampled_from([0, 2, 3, 5]),
    seed=st.integers(0, 9),
)
def test_a_group_is_never_on_both_sides_and_folds_are_a_partition(
    sizes: list[Group], folds: int, seed: int
) -> None:
    lesions = _grouped((2, Label.BENIGN), *[BENIGN] * 10, *sizes)
    group = {lesion.image_id: lesion.lesion_group for lesion in lesions}
    held: list[str] = []
    for fold in range(max(folds, 1)):
        split = split_by_source(lesions, DataConfig(folds=folds, fold=fold), seed=seed)
        assert not {group[i] for i in split.train} & {group[i] for i in split.validation}
        assert sorted([*split.train, *split.validation]) == sorted(group)
        held += split.validation
    assert not folds or sorted(held) == sorted(group)


def test_folds_have_equally_many_images_of_each_class_as_far_as_groups_allow() -> None:
    # Benign groups of 4, 2 and six of 1 make two folds of 6; malignant ones of 2 and two of 1, 2.
    groups: list[Group] = [(4, Label.BENIGN), (2, Label.BENIGN), *[BENIGN] * 6]
    lesions = _grouped(*groups, (2, Label.MALIGNANT), *[MALIGNANT] * 2)
    label = {lesion.image_id: lesion.label for lesion in lesions}
    for seed, fold in ((seed, fold) for seed in range(5) for fold in range(2)):
        split = split_by_source(lesions, DataConfig(folds=2, fold=fold), seed=seed)
        held = [label[i] for i in split.validation]
        assert [held.count(each) for each in Label] == [6, 2]


def test_a_group_is_malignant_if_one_of_its_images_is_and_unlabelled_ones_are_a_stratum() -> None:
    pairs = [
        replace(lesion, lesion_group=f"ISIC_{number - number % 2:07d}")
        for number, lesion in enumerate(_grouped(*[BENIGN, MALIGNANT] * 2, *[MALIGNANT] * 4))
    ]
    others = [replace(x, image_id=f"X{x.image_id}") for x in _grouped(*[(1, None)] * 8)]
    for fold in range(4):
        config = DataConfig(folds=4, fold=fold)
        held = split_by_source([*pairs, *others], config, seed=0).validation
        assert [image_id[0] for image_id in held] == ["I", "I", "X", "X"], "one pair in each"


def test_an_outer_fold_is_on_neither_side_and_the_rest_is_validated_once() -> None:
    lesions = _lesions(83, 37)
    for outer in range(3):
        away = split_by_source(lesions, DataConfig(folds=3, fold=outer), seed=0)
        nested = [DataConfig(outer_folds=3, outer_fold=outer, folds=2, fold=i) for i in range(2)]
        splits = [split_by_source(lesions, config, seed=0) for config in nested]
        assert sorted(i for split in splits for i in split.validation) == sorted(away.train)
        assert all({*split.train, *split.validation} == set(away.train) for split in splits)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="leave 1 to train on and 0 to validate on"):
        split_by_source(_lesions(1, 0), DataConfig(), seed=0)
    with pytest.raises(DataError, match="no image to train on"):
        split_by_source([], DataConfig(split="all"), seed=0)


def test_rows_follow_the_images_or_as_in_the_paper_put_copies_on_both_sides() -> None:
    lesions = _lesions(40, 10)
    ids = [lesion.image_id for lesion in lesions]
    labels = [lesion.label or Label.BENIGN for lesion in lesions]
    plan = classification_plan(ids, labels, AugmentConfig(), seed=0)
    split = split_by_source(lesions, DataConfig(), seed=0)
    train, validation = split_rows(plan, ids, DataConfig(), split, seed=0)
    assert not set(plan.source[train]) & set(plan.source[validation])
    assert plan.original[validation].all(), "validation is unchanged"
    assert [ids[i] for i in plan.source[validation]] == list(split.validation)
    assert len(train) == 32 * 3 + 8 * 13
    train, validation = split_rows(plan, ids, DataConfig(split="paper"), split, seed=0)
    assert sorted([*train, *validation]) == list(range(250))
    assert len(validation) == 50, "0.8 : 0.2 of 250 samples"
    assert set(plan.source[train]) & set(plan.source[validation])
    config = DataConfig(split="all")
    split = split_by_source(lesions, config, seed=0)
    assert split == Split(tuple(ids), ())
    assert [x.tolist() for x in split_rows(plan, ids, config, split, seed=0)] == [[*range(250)], []]


@pytest.mark.parametrize("validation", [("ISIC_0000002",), ()])
def test_a_split_survives_the_way_to_disk_and_back(
    tmp_path: Path, validation: tuple[str, ...]
) -> None:
    split = Split(("ISIC_0000001", "ISIC_0000003"), validation)
    write_split(tmp_path / "split.csv", split)
    assert read_split(tmp_path / "split.csv") == split


@pytest.mark.parametrize("rows", ["", "id,part\na,train", "image_id,part\na,test", "x\na"])
def test_a_table_that_is_no_split_or_names_an_image_twice_is_refused(
    tmp_path: Path, rows: str
) -> None:
    for text in (rows, "image_id,part\n" + "a,train\n" * 2):
        (tmp_path / "split.csv").write_text(text)
        with pytest.raises(RunError):
            read_split(tmp_path / "split.csv")
