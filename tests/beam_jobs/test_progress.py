"""Progress: what is said of a running job, on a terminal and elsewhere."""

import io
import sys

import pytest

from beam_jobs.progress import (
    Done,
    FinishedShards,
    Progress,
    Tally,
    duration,
    progress_text,
    with_bar,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("done", "seconds", "before", "text"),
    [
        (Done(items=1000), 10, 0, "1,000 of 4,000 images, 100 images/s, 30 s left"),
        (Done(items=1000, failed=3), 10, 0,
         "1,000 of 4,000 images, 100 images/s, 3 failed, 30 s left"),
        (Done(items=3000), 10, 2000, "3,000 of 4,000 images, 100 images/s, 10 s left"),
        (Done(items=4000), 8, 0, "4,000 of 4,000 images, 500 images/s, 8 s"),
        (Done(items=0), 3, 0, "0 of 4,000 images, 0 images/s"),
    ],
)  # fmt: skip
def test_the_line_tells_count_rate_failures_and_time_left(done, seconds, before, text):
    assert progress_text(done, 4000, "images", "failed", seconds, before) == text


@pytest.mark.parametrize(("done", "cells"), [(0, 0), (50, 12), (100, 24)])
def test_the_bar_is_filled_as_far_as_the_work(done, cells):
    bar, _, line = with_bar("job: 50 of 100", done, 100, 80).partition("  ")
    assert (bar.count("█"), len(bar), line) == (cells, 24, "job: 50 of 100")


def test_a_line_never_wraps_on_a_narrow_terminal():
    assert len(with_bar("x" * 60, 1, 2, 60)) < 60
    assert len(with_bar("x" * 50, 1, 2, 60)) < 60


def test_a_terminal_sees_one_line_rewritten(monkeypatch):
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    with Progress("job", 2, "images", "failed", lambda: Done(items=2)):
        pass
    text = stderr.getvalue()
    assert text.startswith("\r\x1b[K")
    assert "█" * 24 in text
    assert text.count("\n") == 1


def test_a_file_sees_a_plain_line(capsys):
    with Progress("job", 2, "images", "failed", lambda: Done(items=2, failed=1)):
        pass
    assert capsys.readouterr().err.startswith("job: 2 of 2 images, ")
    assert "\x1b" not in capsys.readouterr().err


def test_shards_of_other_processes_count_when_they_are_done():
    results = {}
    asked = []

    def failed_in(shard):
        asked.append(shard)
        return results.get(shard)

    shards = FinishedShards([10, 20, 30], failed_in)
    assert shards.count() == Done(items=0)
    results[1] = 2
    assert shards.count() == Done(items=20, failed=2)
    results.update({0: 0, 2: 1})
    assert shards.count() == Done(items=60, failed=3)
    assert asked.count(1) == 2  # a result is read once


def test_shards_that_are_not_listed_are_not_asked_for():
    asked, listed = [], [2]
    shards = FinishedShards([10, 20, 30], lambda shard: asked.append(shard) or 0, lambda: listed)
    assert shards.count() == Done(items=30)
    listed.append(0)
    assert shards.count() == Done(items=40)
    assert asked == [2, 0]


def test_a_tally_begins_anew_with_each_job():
    tally = Tally()
    tally.add()
    tally.add(failed=2)
    assert tally.count() == Done(items=2, failed=2)
    tally.reset()
    assert tally.count() == Done(items=0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.6, "9 s"), (245, "4 min 05 s"), (7380, "2 h 03 min")]
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
