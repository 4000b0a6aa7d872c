"""What a user is told: one line, with the place, the rule, the value and the mend."""

import csv
import dataclasses
import json

import pytest

from pipeline.records.manifest import write_manifest
from records_factory import LABELS, write_toy_records
from trainer.loop import Loop
from trainer.task import main

FLAGS = ("--set", "model.backbone=small-cnn", "--set", "train.batch_size=8")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messages") / "records"
    write_toy_records(folder)
    return folder


def error_of(capsys, records, run, *flags):
    """The exit code and the one line on stderr."""
    code = main(["--records", str(records), "--run", str(run), *FLAGS, *flags])
    [line] = capsys.readouterr().err.splitlines()
    return code, line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--folds", "7"], "--folds must be all, or among 0, 1, 2, 3, got '7'"),
        (["--set", "train.epoch=1"], "train: unknown key 'epoch'; did you mean 'epochs'?"),
        (["--set", "train.batch_size=64"], "train.batch_size must be 30 or less (the training"),
        (
            ["--set", "optimizer.accumulate_steps=4"],
            "optimizer.accumulate_steps must be 3 or less (the batches of 30 training examples), "
            "got 4",
        ),
        (
            ["--set", 'data.classes=["benign", "melanoma"]'],
            "data.classes must be the records' ['benign', 'malignant'], in their order, "
            "got ['benign', 'melanoma']; drop the setting, or name other --records",
        ),
        (
            ["--set", "loss.kind=bce", "--set", "loss.class_weights=[1.0, 2.0, 3.0]"],
            "loss.class_weights must be",
        ),
        (["--set", "train.keep=best"], "evaluate_every must be given for keep = 'best'"),
        (
            ["--set", "schedule.kind=on_plateau"],
            "train.evaluate_every must be given for schedule.kind = 'on_plateau', got none",
        ),
        (["--run", "s3://bucket/run"], "path must be a local one or gs://BUCKET/NAME, got 's3:"),
    ],
)
def test_what_the_command_line_has_wrong_is_told_in_one_line(
    records, tmp_path, capsys, flags, message
):
    code, line = error_of(capsys, records, tmp_path / "run", *flags)
    assert code == 2
    assert message in line
    assert not (tmp_path / "run").exists()


def test_records_without_a_manifest_are_not_complete(tmp_path, capsys):
    code, line = error_of(capsys, tmp_path, tmp_path / "run")
    assert code == 1
    assert "the records are missing or not complete" in line


def test_a_manifest_of_a_newer_schema_is_told_from_a_damaged_one(records, tmp_path, capsys):
    tables = json.loads((records / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**tables, "schema_version": 99}))
    code, line = error_of(capsys, tmp_path, tmp_path / "run")
    assert code == 1
    assert "schema_version must be" in line
    assert "got 99" in line


def test_records_that_lack_too_many_rows_name_the_flag_to_take_them(tmp_path, capsys):
    write_toy_records(tmp_path / "records", failures_over_limit=True)
    code, line = error_of(capsys, tmp_path / "records", tmp_path / "run")
    assert code == 1
    assert "--allow_failures" in line


def test_a_run_does_not_go_on_with_records_of_other_classes(tmp_path, capsys):
    manifest = write_toy_records(tmp_path / "records")
    run = ("--folds", "0", "--set", "train.epochs=1")
    assert main([*words(tmp_path), *run]) == 0
    label = dataclasses.replace(LABELS["binary"], classes=("naevus", "malignant"))
    write_manifest(str(tmp_path / "records"), dataclasses.replace(manifest, label=label))
    capsys.readouterr()
    code, line = error_of(capsys, tmp_path / "records", tmp_path / "run", *run)
    assert code == 2
    assert "classes (there ['benign', 'malignant'], asked ['naevus', 'malignant'])" in line
    assert "give another --run, or --fresh" in line


def words(folder):
    return ["--records", f"{folder}/records", "--run", f"{folder}/run", *FLAGS]


def damage(records, shard):
    path = records / shard.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_damaged_shard_is_named_with_record_and_byte(tmp_path, capsys, cache):
    manifest = write_toy_records(tmp_path / "records")
    [shard, *_] = manifest.shards_of(["fold2"])
    damage(tmp_path / "records", shard)
    flags = ("--folds", "0", "--set", f"data.cache={cache}")
    code, line = error_of(capsys, tmp_path / "records", tmp_path / "run", *flags)
    assert code == 1
    assert shard.file in line
    assert "record" in line
    assert "byte" in line


def test_a_shard_damaged_while_training_is_named_and_a_mended_one_goes_on(
    tmp_path, capsys, monkeypatch
):
    manifest = write_toy_records(tmp_path / "records")
    [shard, *_] = manifest.shards_of(["fold2"])
    whole, iterate = (tmp_path / "records" / shard.file).read_bytes(), Loop.iterate
    flags = ("--folds", "0", "--set", "data.cache=none", "--set", "train.epochs=2")
    flags = (*flags, "--set", "train.steps_per_call=1")
    epochs = []

    def damaging(self, make):
        # The second epoch begins after a step of the first, whose records are then in its buffer.
        epochs.append(self)
        if len(epochs) == 2:
            damage(tmp_path / "records", shard)
        return iterate(self, make)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "iterate", damaging)
        code, line = error_of(capsys, tmp_path / "records", tmp_path / "run", *flags)
    assert code == 1
    assert shard.file in line
    (tmp_path / "records" / shard.file).write_bytes(whole)
    assert main([*words(tmp_path), *flags]) == 0
    assert "epoch 1/2" not in capsys.readouterr().out


def test_a_loss_that_is_not_finite_names_step_rate_and_rows_and_keeps_the_checkpoint(
    records, tmp_path, capsys
):
    flags = ("--folds", "0", "--set", "optimizer.learning_rate=1e30", "--set", "train.seed=5")
    flags = (*flags, "--set", "train.steps_per_call=1", "--set", "optimizer.kind=sgd")
    code, line = error_of(capsys, records, tmp_path / "run", *flags)
    assert code == 1
    assert "fold 0, epoch 1, step " in line
    assert "at learning rate " in line
    assert "lower optimizer.learning_rate, or set optimizer.clip_norm = 1.0, and start with" in line
    with (tmp_path / "run/fold0/nan_batch.csv").open() as file:
        batch = list(csv.DictReader(file))
    assert len(batch) == 8
    assert "on rows " + ", ".join(row["row"] for row in batch) in line
    assert all(row["id"] not in line for row in batch)


def test_weights_that_are_not_finite_are_never_a_checkpoint(records, tmp_path, capsys, monkeypatch):
    train = Loop.train

    def breaking(self, iterator, first_step, steps):
        done = train(self, iterator, first_step, steps)
        if first_step == 3:  # the loss of these steps is fine, the last one's weights are not
            self.model.trainable_variables[0].assign(
                self.model.trainable_variables[0] * float("nan")
            )
        return done

    monkeypatch.setattr(Loop, "train", breaking)
    code, line = error_of(capsys, records, tmp_path / "run", "--folds", "0")
    assert code == 1
    assert "fold 0, epoch 2, step 6: loss and weights must stay finite, got weights" in line
    checkpoints = (tmp_path / "run/fold0/checkpoints").iterdir()
    assert [path.name for path in checkpoints] == ["step-00000003"]


def test_the_best_weights_cannot_be_chosen_on_rows_of_one_class(tmp_path, capsys):
    write_toy_records(tmp_path / "records", parts=("train", "val"), unlabelled=("val",))
    flags = ("--set", "train.keep=best", "--set", "train.evaluate_every=1")
    flags = (*flags, "--set", "data.train=train", "--set", "data.validation=val")
    code, line = error_of(capsys, tmp_path / "records", tmp_path / "run", *flags)
    assert code == 2
    assert "must hold two classes for train.keep = 'best', got one in val" in line


def test_a_misspelt_flag_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--records", "a", "--run", "b", "--fold", "0"])
    assert leaving.value.code == 2
    assert "unknown flag --fold; did you mean '--folds'?" in capsys.readouterr().err
