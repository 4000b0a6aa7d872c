"""`trainer.folds`: which parts train and which validate."""

import pytest

from pipeline.errors import SettingsError
from records_factory import write_toy_records
from trainer.config import DataConfig
from trainer.folds import choose_folds, fold_parts

SIX = tuple(f"fold{k}" for k in range(6))


def manifest(tmp_path, parts):
    return write_toy_records(tmp_path, rows=2 * len(parts), parts=parts, shards_per_part=1)


@pytest.mark.parametrize("count", [None, 6, 4, 3, 2])
def test_each_record_fold_validates_once_and_never_trains_beside_itself(tmp_path, count):
    folds = fold_parts(manifest(tmp_path, (*SIX, "holdout")), DataConfig(folds=count))
    assert len(folds) == (count or 6)
    assert sorted(part for fold in folds for part in fold.validation) == sorted(SIX)
    for fold in folds:
        assert sorted((*fold.train, *fold.validation)) == sorted(SIX)


def test_a_record_fold_goes_to_its_number_modulo_the_count(tmp_path):
    folds = fold_parts(manifest(tmp_path, SIX), DataConfig(folds=4))
    assert [fold.validation for fold in folds] == [
        ("fold0", "fold4"), ("fold1", "fold5"), ("fold2",), ("fold3",)
    ]  # fmt: skip


def test_given_parts_are_fold_0_of_the_run_and_no_fold_in_the_predictions(tmp_path):
    data = DataConfig(train=("train",), validation=("val",))
    [fold] = fold_parts(manifest(tmp_path, ("train", "val", "test")), data)
    assert (fold.number, fold.fold, fold.train, fold.validation) == (0, -1, ("train",), ("val",))


@pytest.mark.parametrize(
    ("parts", "data", "message"),
    [
        (SIX, DataConfig(folds=7), "data.folds must be 6 or less"),
        (("train", "val"), DataConfig(), "there must be 2 folds or more, got 0; name given parts"),
        (SIX, DataConfig(train=("train",), validation=("val",)), "part must be one of fold0"),
    ],
)
def test_folds_that_the_records_lack_are_refused(tmp_path, parts, data, message):
    with pytest.raises(SettingsError, match=message):
        fold_parts(manifest(tmp_path, parts), data)


def test_folds_are_chosen_by_number_in_order_once(tmp_path):
    folds = fold_parts(manifest(tmp_path, SIX), DataConfig())
    assert choose_folds(folds, "all") == folds
    assert [fold.number for fold in choose_folds(folds, "4, 0,4")] == [0, 4]
    with pytest.raises(SettingsError, match="--folds must be all, or among 0, 1, 2, 3, 4, 5, got"):
        choose_folds(folds, "0,6")


@pytest.mark.parametrize("count", [None, 3])
@pytest.mark.parametrize("numbers", [(0, 1, 3), (1, 2, 3)])
def test_given_folds_keep_their_numbers_unless_merged(tmp_path, numbers, count):
    parts = tuple(f"fold{number}" for number in numbers)
    folds = fold_parts(manifest(tmp_path, parts), DataConfig(folds=count))
    assert tuple(fold.number for fold in folds) == numbers
    for fold in folds:
        assert fold.validation == (f"fold{fold.number}",)
        assert set(fold.train) == {*parts} - {*fold.validation}
    assert choose_folds(folds, "3") == folds[-1:]


def test_a_merged_fold_that_no_record_fold_falls_into_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"data.folds must leave no fold empty, got 2: fold 1"):
        fold_parts(manifest(tmp_path, ("fold0", "fold2", "fold4")), DataConfig(folds=2))
