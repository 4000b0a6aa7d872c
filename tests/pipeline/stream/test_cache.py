"""Held examples: in memory or on disk, the same; and nothing is left behind."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import DataError, SettingsError
from pipeline.stream.augment.geometry import Transpose
from pipeline.stream.batches import Position, TrainingStream, evaluation_batches
from pipeline.stream.held import HeldExamples, open_examples
from pipeline.stream.records import Portion, open_records
from pipeline.stream.source import StreamedExamples
from records_factory import write_toy_records
from records_rewriter import rewrite

ALL = ("fold0", "fold1", "fold2", "fold3")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_records(folder, rows=40, unlabelled=("fold3",))
    return open_records(str(folder))


@pytest.mark.parametrize("ops", [(), (Transpose(),)], ids=["plain", "augmented"])
def test_examples_on_disk_come_as_those_in_memory(records, tmp_path, ops):
    settings = {"batch_size": 8, "seed": 1, "ops": ops}
    in_memory = TrainingStream(records, ALL, **settings, cache="memory")
    on_disk = TrainingStream(records, ALL, **settings, cache="disk", cache_folder=str(tmp_path))
    assert in_memory.is_held
    assert on_disk.is_held
    for one, other in zip(in_memory.epoch(), on_disk.epoch(), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_a_disk_cache_has_no_name_so_a_killed_process_leaves_nothing(records, tmp_path):
    stream = TrainingStream(
        records, ALL, batch_size=8, seed=1, cache="disk", cache_folder=str(tmp_path)
    )
    assert not list(tmp_path.iterdir())
    assert len(list(stream.epoch())) == 5


def test_a_disk_without_room_is_told_before_anything_is_decoded(records, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=rf"{tmp_path}: .*room for [\d,]+ bytes .* No space left"):
        TrainingStream(records, ALL, batch_size=8, seed=1, cache="disk", cache_folder=str(tmp_path))


def test_a_cache_folder_that_is_not_there_is_told(records, tmp_path):
    folder = str(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"{folder}: data.cache_folder .* No such file"):
        TrainingStream(records, ALL, batch_size=8, seed=1, cache="disk", cache_folder=folder)


@pytest.mark.parametrize(("share", "kind"), [(0.9, HeldExamples), (0.1, StreamedExamples)])
def test_auto_holds_what_fits_into_its_share_of_the_memory(records, monkeypatch, share, kind):
    monkeypatch.setattr("pipeline.stream.held.memory_bytes", lambda: 40 * 32 * 32 * 3 * 2)
    portion = Portion(records=records, parts=ALL)
    assert type(open_examples([portion], None, memory_share=share)) is kind


def test_images_of_several_shapes_cannot_be_held_as_they_are_stored(tmp_path):
    write_toy_records(tmp_path)
    rewrite(tmp_path, render={"fit": "short"})
    portion = Portion(records=open_records(str(tmp_path)), parts=ALL)
    assert isinstance(open_examples([portion], None, "auto"), StreamedExamples)
    with pytest.raises(SettingsError, match=r"cache must be .* got .disk."):
        open_examples([portion], None, "disk")


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_chosen_rows_train_and_evaluate_alone(records, cache):
    chosen = [3, 8, 9, 30]
    stream = TrainingStream(records, ALL, batch_size=2, seed=1, rows=chosen, cache=cache)
    assert stream.steps_per_epoch == 2
    rows = [row for inputs, _, _ in stream.epoch(Position(epoch=5)) for row in inputs["row"]]
    assert sorted(int(row) for row in rows) == chosen
    [(inputs, _, mask)] = evaluation_batches(records, ALL, batch_size=8, rows=chosen, cache=cache)
    assert sorted(inputs["row"][mask == 1].numpy()) == chosen


def test_only_chosen_rows_are_decoded(records, monkeypatch):
    calls = []
    monkeypatch.setattr(
        StreamedExamples,
        "_picture",
        lambda self, *a: calls.append(a) or np.zeros((32, 32, 3), "u1"),
    )
    TrainingStream(records, ALL, batch_size=2, seed=1, rows=[3, 8])
    assert len(calls) == 2


def test_rows_that_are_not_in_the_parts_are_refused(records):
    with pytest.raises(ValueError, match=r"rows must be of the parts that are read, got 2$"):
        TrainingStream(records, ["fold0"], batch_size=1, seed=1, rows=[0, 2])


def test_a_killed_process_leaves_no_disk_cache(records, tmp_path):
    code = (
        "import os, signal, sys; from pipeline.stream.batches import TrainingStream; "
        "from pipeline.stream.records import open_records; "
        f"TrainingStream(open_records({records.folder!r}), ['fold0'], batch_size=2, seed=1, "
        f"cache='disk', cache_folder={str(tmp_path)!r}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert not list(tmp_path.iterdir())
