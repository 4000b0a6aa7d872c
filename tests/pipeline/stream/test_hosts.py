"""Several hosts: each example on one of them, and all of them equally many batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.stream.batches import Position, TrainingStream, evaluation_batches
from pipeline.stream.hosts import Hosts
from pipeline.stream.records import Portion, find_stretches, open_records
from records_factory import write_toy_records

ALL = ("fold0", "fold1", "fold2", "fold3")
counts = pytest.mark.parametrize("count", [2, 3])
both_caches = pytest.mark.parametrize("cache", ["memory", "none"])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_records(folder, rows=41, seed=2)
    return open_records(str(folder))


def each(count):
    return [Hosts(index=index, count=count) for index in range(count)]


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(1, 9))
def test_every_record_of_a_file_is_one_hosts(sizes, count):
    files = [(f"shard{place}", size) for place, size in enumerate(sizes)]
    shares = [host.share(files) for host in each(count)]
    for place, size in enumerate(sizes):
        assert sorted(r for share in shares for r in share[place]) == list(range(size))
    totals = [sum(map(len, share)) for share in shares]
    assert max(totals) - min(totals) <= 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 9))
def test_a_host_reads_at_most_two_files_in_part(sizes, count):
    files = [(f"shard{place}", size) for place, size in enumerate(sizes)]
    for host in each(count):
        shares = host.share(files)
        parts = [s for s, size in zip(shares, sizes, strict=True) if 0 < len(s) < size]
        assert len(parts) <= 2


@counts
def test_a_host_opens_only_the_shards_it_has_a_share_of(records, count):
    portion = Portion(records=records, parts=ALL)
    opened = [{s.path for s in find_stretches([portion], host)} for host in each(count)]
    assert all(len(paths) < 8 for paths in opened)
    assert len(set().union(*opened)) == 8


@counts
@both_caches
def test_hosts_train_on_each_example_once_but_for_what_fills_no_batch(records, count, cache):
    batch_size = 2 * count
    rows = []
    for host in each(count):
        stream = TrainingStream(
            records, ALL, batch_size=batch_size, seed=3, cache=cache, hosts=host
        )
        batches = [inputs["row"].numpy() for inputs, _, _ in stream.epoch()]
        assert len(batches) == stream.steps_per_epoch == 41 // batch_size
        assert {len(batch) for batch in batches} == {2}
        rows += np.concatenate(batches).tolist()
    assert len(set(rows)) == len(rows) == 41 // batch_size * batch_size


@counts
@both_caches
def test_hosts_evaluate_each_example_once_in_equally_many_batches(records, count, cache):
    rows, lengths = [], set()
    for host in each(count):
        batches = evaluation_batches(records, ALL, batch_size=4 * count, cache=cache, hosts=host)
        found = [(inputs["row"].numpy(), mask.numpy()) for inputs, _, mask in batches]
        lengths.add(len(found))
        rows += [row for batch, mask in found for row in batch[mask == 1]]
    assert sorted(rows) == list(range(41))
    assert len(lengths) == 1


@counts
def test_no_two_hosts_draw_with_the_same_place(records, count, monkeypatch):
    seen = []

    def render(source, keys, chain, op_seeds, places):
        seen.extend(places.tolist())
        return np.zeros((len(keys), 32, 32, 3), np.uint8)

    monkeypatch.setattr("pipeline.stream.batches.render_batch", render)
    for host in each(count):
        stream = TrainingStream(
            records, ALL, batch_size=2 * count, seed=3, cache="none", hosts=host
        )
        list(stream.epoch())
    assert sorted(seen) == list(range(stream.steps_per_epoch * stream.batch_size))


@both_caches
def test_a_hosts_epoch_goes_on_from_the_position_of_all(records, cache):
    stream = TrainingStream(
        records, ALL, batch_size=4, seed=3, cache=cache, hosts=Hosts(index=1, count=2)
    )
    whole = [inputs["row"].numpy().tolist() for inputs, _, _ in stream.epoch()]
    position = stream.after(Position(), 6)
    assert position.examples == 24
    rest = [inputs["row"].numpy().tolist() for inputs, _, _ in stream.epoch(position)]
    assert rest == whole[6:]


def test_hosts_draw_classes_alike(records):
    for host in each(2):
        stream = TrainingStream(
            records, ALL, batch_size=4, seed=3, cache="none", hosts=host, sampling="balanced"
        )
        targets = np.concatenate([t["target"].numpy() for _, t, _ in stream.epoch()])
        assert abs(np.bincount(targets)[0] - 10) <= 1


def test_a_batch_that_does_not_divide_over_the_hosts_is_refused(records):
    with pytest.raises(SettingsError, match="multiple of the 3 hosts, got 4"):
        evaluation_batches(records, ALL, batch_size=4, hosts=Hosts(index=0, count=3))


def test_a_host_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"index must be in \[0, 2\), got 2"):
        Hosts(index=2, count=2)
