"""The next epoch begins before it is needed, and nothing is read twice."""

import threading

import pytest
import tensorflow as tf

from pipeline.stream.batches import Position, TrainingStream
from pipeline.stream.records import open_records
from records_factory import write_toy_records
from trainer.running.ahead import Ahead


class Loop:
    """What `Ahead` needs of one."""

    def iterate(self, make):
        return iter(make(None))


class Stream:
    """Counts what is opened."""

    def __init__(self):
        self.opened = []

    def epoch(self, position, context):
        self.opened.append(position)
        return tf.data.Dataset.from_tensors(position.epoch)


def test_an_epoch_that_was_begun_is_taken_and_opened_once():
    stream = Stream()
    ahead = Ahead(Loop(), stream)
    ahead.begin(Position(epoch=1))
    ahead.begin(Position(epoch=1))
    assert next(ahead.take(Position(epoch=1))) == 1
    assert stream.opened == [Position(epoch=1)]


def test_another_position_than_the_begun_one_is_opened_anew():
    stream = Stream()
    ahead = Ahead(Loop(), stream)
    ahead.begin(Position(epoch=1))
    assert next(ahead.take(Position(epoch=2))) == 2
    assert next(ahead.take(Position(epoch=1))) == 1
    assert [position.epoch for position in stream.opened] == [1, 2, 1]


def test_what_goes_wrong_while_an_epoch_begins_is_raised_where_it_is_taken():
    class Broken:
        def epoch(self, position, context):
            raise OSError("a shard is gone")

    ahead = Ahead(Loop(), Broken())
    ahead.begin(Position(epoch=1))
    with pytest.raises(OSError, match="a shard is gone"):
        ahead.take(Position(epoch=1))


def test_batches_are_made_before_the_first_is_asked_for(tmp_path, monkeypatch):
    write_toy_records(tmp_path, rows=16)
    parts = ["fold0", "fold1", "fold2", "fold3"]
    stream = TrainingStream(open_records(str(tmp_path)), parts, batch_size=4, seed=1, cache="none")
    is_made, render = threading.Event(), stream._examples.fill

    def noticed(keys, out):
        render(keys, out)
        is_made.set()

    monkeypatch.setattr(stream._examples, "fill", noticed)
    iterator = iter(stream.epoch())
    assert is_made.wait(timeout=60)
    assert len(list(iterator)) == 4
