"""`trainer.running.checkpoints`: whole or not at all, two and the best kept, damage passed over."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from trainer.running.checkpoints import Checkpoints, newest_weights
from trainer.running.state import Best, State, Sums

DIGESTS = {"recipe_digest": "a"}


def state_of(step, **values):
    return State(is_held=True, step=step, **values)


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 3, 6 and 9, each of a weight as large as its step."""
    checkpoints = Checkpoints(str(tmp_path), DIGESTS)
    weight = tf.Variable(0.0)
    for step in (3, 6, 9):
        weight.assign(step)
        checkpoints.save(state_of(step), {"weight": weight})
    return checkpoints


def folders(path):
    return sorted(folder.name for folder in path.iterdir())


def restored(checkpoints, step):
    weight = tf.Variable(0.0)
    checkpoints.restore(step, {"weight": weight})
    return float(weight)


def test_the_last_two_are_kept_and_the_newest_is_found(saved, tmp_path):
    assert folders(tmp_path) == ["step-00000006", "step-00000009"]
    found = Checkpoints(str(tmp_path), DIGESTS).newest()
    assert found.step == 9
    assert restored(saved, 9) == 9


def test_a_state_comes_back_with_every_number_as_it_was(tmp_path):
    sums = Sums(steps=3, loss=0.1 + 0.2, seconds=1 / 3, scores=np.arange(6).reshape(2, 3))
    state = state_of(3, epoch=1, sums=sums, best=Best(score=2 / 3, step=2), plateau={"best": 0.1})
    Checkpoints(str(tmp_path), DIGESTS).save(state, {"weight": tf.Variable(0.0)})
    found = Checkpoints(str(tmp_path), DIGESTS).newest()
    np.testing.assert_array_equal(found.sums.scores, sums.scores)
    without = {"sums": dataclasses.replace(sums, scores=None)}
    assert dataclasses.replace(
        found, sums=dataclasses.replace(found.sums, scores=None)
    ) == dataclasses.replace(state, **without)


def test_the_best_is_kept_as_long_as_a_kept_state_speaks_of_it(tmp_path):
    checkpoints, weight = Checkpoints(str(tmp_path), DIGESTS), {"weight": tf.Variable(0.0)}
    for step, best in [(3, 3), (6, 3), (9, 3), (12, 12)]:
        checkpoints.save(state_of(step, best=Best(score=0.5, step=best)), weight)
    assert folders(tmp_path) == ["step-00000003", "step-00000009", "step-00000012"]
    checkpoints.save(state_of(15, best=Best(score=0.5, step=12)), weight)
    assert folders(tmp_path) == ["step-00000012", "step-00000015"]


def test_amending_a_state_leaves_its_weights(saved, tmp_path):
    saved.amend(state_of(9, epoch=2))
    assert Checkpoints(str(tmp_path), DIGESTS).newest().epoch == 2
    assert restored(saved, 9) == 9


@pytest.mark.parametrize("file", ["weights.data-00000-of-00001", "weights.index", "state.json"])
@pytest.mark.parametrize("is_removed", [False, True])
def test_a_damaged_one_is_passed_over_with_a_warning(saved, tmp_path, caplog, file, is_removed):
    path = tmp_path / "step-00000009" / file
    if is_removed:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-2])
    checkpoints = Checkpoints(str(tmp_path), DIGESTS)
    assert checkpoints.newest().step == 6
    assert restored(checkpoints, 6) == 6
    was_never_whole = is_removed and file == "state.json"  # killed while it was written
    assert ("step-00000009: passed over" in caplog.text) is not was_never_whole


def test_one_flipped_bit_is_damage(saved, tmp_path):
    path = tmp_path / "step-00000009" / "weights.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    assert Checkpoints(str(tmp_path), DIGESTS).newest().step == 6


def test_other_digests_are_no_start_and_it_is_said(saved, tmp_path, caplog):
    assert Checkpoints(str(tmp_path), {"recipe_digest": "b"}).newest() is None
    assert "of another recipe or of shards that have changed" in caplog.text


def test_what_is_newer_than_the_start_is_removed(saved, tmp_path):
    checkpoints = Checkpoints(str(tmp_path), DIGESTS)
    checkpoints.start_from(state_of(6))
    assert folders(tmp_path) == ["step-00000006"]
    checkpoints.start_from(None)
    assert folders(tmp_path) == []


def test_the_newest_weights_are_those_of_a_whole_checkpoint(saved, tmp_path):
    (tmp_path / "step-00000009" / "state.json").unlink()
    assert newest_weights(str(tmp_path)) == str(tmp_path / "step-00000006" / "weights")
