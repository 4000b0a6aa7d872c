"""What a person sees of a run: `trainer.running.display`, and TensorBoard's files."""

import io

import numpy as np
import pytest
import tensorflow as tf

from trainer.running.course import Course
from trainer.running.display import Display, bar_of, duration
from trainer.running.state import State, Sums
from trainer.running.tensorboard import opened_board

COURSE = Course(
    epochs=2, steps_per_epoch=10, batch_size=4, batches_per_step=2, rates=np.ones(20, np.float32)
)


class Screen(io.StringIO):
    def isatty(self):
        return True


def display(out, times):
    return Display(fold=3, course=COURSE, out=out, clock=iter(times).__next__)


def state(steps, epoch=0, seconds=2.0):
    sums = Sums(steps=steps, loss=0.5 * steps, seconds=seconds, waited_seconds=0.5)
    return State(is_held=True, step=epoch * 10 + steps, epoch=epoch, sums=sums)


def test_a_terminal_has_a_bar_with_what_one_wants_to_know(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    out = Screen()
    display(out, [0.0, 2.0]).call_ended(state(5), 0.75, 5)
    # 5 of 20 steps in 2 s: 6 s for the others; 5 steps of 8 images in them.
    facts = "fold 3 epoch 1/2 loss 0.5000 AUC 0.7500 20 images/s wait 25% 0:06 left"
    bar = "█" * 15 + "·" * 15
    assert out.getvalue() == f"\r\x1b[K{facts} {bar}"


@pytest.mark.parametrize("columns", [20, 80, 100])
def test_the_line_of_a_narrow_terminal_does_not_wrap(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Screen()
    display(out, [0.0, 2.0]).call_ended(state(5), None, 5)
    assert len(out.getvalue().removeprefix("\r\x1b[K")) < columns


def test_a_terminal_is_drawn_ten_times_a_second_at_most():
    out = Screen()
    shown = display(out, [0.0, 0.2, 0.25, 0.31])
    for steps in (1, 2, 3):
        shown.call_ended(state(steps), None, 1)
    assert out.getvalue().count("\r") == 2


def test_a_log_has_a_line_every_half_minute_and_one_an_epoch():
    out = io.StringIO()
    shown = display(out, [0.0, 10.0, 31.0, 40.0, 40.0])
    for steps in (1, 2, 3):
        shown.call_ended(state(steps), None, 1)
    shown.epoch_ended(state(10), None, float("nan"))
    half_minute, epoch = out.getvalue().splitlines()
    assert half_minute.endswith("4:39 left  20% of the epoch")  # 2 of 20 steps in 31 s
    assert epoch == (
        "fold 3  epoch 1/2  loss 0.5000  40 images/s  wait 25%  2.0 s  validation AUC n/a"
    )


def test_time_left_counts_the_steps_of_this_process_only():
    out = io.StringIO()
    # Continued at step 10; its 5 steps took 40 s, and so will the last 5.
    display(out, [0.0, 40.0]).call_ended(state(5, epoch=1), None, 5)
    assert "0:40 left" in out.getvalue()


def test_a_bar_fills_in_eighths():
    assert bar_of(0, 4) == "····"
    assert bar_of(0.5 + 1 / 32, 4) == "██▏·"
    assert bar_of(1, 4) == "████"


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_a_duration_is_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_tensorboard_has_scalars_by_step_and_pictures(tmp_path):
    images = tf.cast(tf.random.stateless_uniform([20, 8, 8, 3], [1, 2]) * 255, tf.uint8)
    with opened_board(str(tmp_path)) as board:
        board.scalars("train", 7, {"loss": 0.5, "auc": None})
        board.pictures(0, images)
    [path] = tmp_path.iterdir()
    events = [
        (event.step, value)
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    (loss_step, loss), (_, pictures) = events
    assert (loss_step, loss.tag, tf.make_ndarray(loss.tensor)) == (7, "train/loss", 0.5)
    width, height, first, *more = pictures.tensor.string_val
    assert (width, height, 1 + len(more)) == (b"8", b"8", 16)
    np.testing.assert_array_equal(tf.io.decode_png(first), images[0])
