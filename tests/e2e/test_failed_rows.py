"""A row whose image failed leaves a gap in the row numbers; everything after it must not slip."""

import numpy as np
import pytest

from beam_jobs.make_records import main as make_records
from dataset_factory import record_flags, write_dataset
from pipeline.metadata import MetadataEncoder
from pipeline.predictions import read_predictions
from pipeline.records.manifest import read_rows
from trainer.task import main as train


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of 24 rows, of which rows 0, 7 and 23 have no image."""
    folder = tmp_path_factory.mktemp("gaps")
    write_dataset(folder)
    names = sorted(path.name for path in (folder / "jpeg").iterdir())
    for row in (0, 7, 23):
        (folder / "jpeg" / names[row]).unlink()
    assert make_records(record_flags(folder, folder / "out", max_failures="1")) == 0
    return folder / "out" / "64"


def test_each_example_gets_its_own_metadata(records):
    from pipeline.stream.batches import evaluation_batches
    from pipeline.stream.records import open_records

    rows = read_rows(str(records))
    encoder = MetadataEncoder.fit(rows, categorical=["sex", "site"], numeric=["age_approx"])
    folds = tuple(rows["part"].unique())
    batches = evaluation_batches(
        open_records(str(records)), folds, batch_size=5, metadata=encoder.encode_by_row(rows)
    )
    wanted = dict(zip(rows["row"], encoder.encode(rows), strict=True))
    seen = 0
    for inputs, _, mask in batches.as_numpy_iterator():
        for row, vector in zip(inputs["row"][mask > 0], inputs["metadata"][mask > 0], strict=True):
            np.testing.assert_array_equal(vector, wanted[row])
            seen += 1
    assert seen == len(rows) == 21


def test_a_fused_run_trains_and_predicts_every_row_that_is_there(records, tmp_path):
    flags = ["--set", "model.backbone=small-cnn", "--set", "model.fusion=concat"]
    flags += ["--set", "train.epochs=1", "--set", "train.batch_size=4", "--folds", "0"]
    assert train(["--records", str(records), "--run", str(tmp_path / "run"), *flags]) == 0
    rows = read_rows(str(records))
    predicted = read_predictions(str(tmp_path / "run")).frame
    assert predicted["row"].tolist() == rows.loc[rows["fold"] == 0, "row"].tolist()
