"""Sampling: classes as often as asked, and no example again before its like were all drawn."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.records.manifest import LabelInfo, read_rows
from pipeline.stream.augment.colour import Brightness
from pipeline.stream.batches import Position, TrainingStream
from pipeline.stream.records import open_records
from pipeline.stream.render import decode
from pipeline.stream.sampling import PositiveShare, Sampler, find_strata
from records_factory import LABELS, write_toy_records

ALL = ("fold0", "fold1", "fold2", "fold3")
OPS = (Brightness(max_delta=0.2),)
both_caches = pytest.mark.parametrize("cache", ["memory", "none"])
samplers = st.builds(
    Sampler,
    st.shared(st.lists(st.integers(1, 30), min_size=1, max_size=4), key="sizes"),
    st.shared(st.lists(st.integers(1, 30), min_size=1, max_size=4), key="sizes").flatmap(
        lambda sizes: st.lists(st.floats(0.01, 1), min_size=len(sizes), max_size=len(sizes))
    ),
    st.integers(1, 60),
    st.integers(0, 9),
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_records(folder, rows=40, unlabelled=("fold3",), seed=3)
    return open_records(str(folder))


@pytest.fixture(scope="module")
def targets(records):
    return read_rows(records.folder).set_index("row")["target"]


def drawn(stream, epoch=0, examples=0):
    """The rows of an epoch and, by row, its images."""
    rows, images = [], collections.defaultdict(list)
    for inputs, _, _ in stream.epoch(Position(epoch=epoch, examples=examples)):
        for row, image in zip(inputs["row"].numpy().tolist(), inputs["image"].numpy(), strict=True):
            rows.append(row)
            images[row].append(image)
    return rows, images


@given(samplers)
def test_an_epoch_draws_each_stratum_by_its_share(sampler):
    strata = sampler.strata(3)
    counts = np.bincount(strata, minlength=len(sampler.quotas))
    assert counts.tolist() == list(sampler.quotas)
    for number, quota in enumerate(sampler.quotas):
        assert len(sampler.draws(number, 3)) == quota


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.integers(1, 1000))
def test_quotas_are_the_shares_rounded(shares, draws):
    quotas = np.array(Sampler([1] * len(shares), shares, draws, seed=0).quotas)
    assert quotas.sum() == draws
    assert (abs(quotas - draws * np.array(shares) / sum(shares)) < 1 + 1e-9).all()


@given(st.integers(1, 30), st.integers(1, 60), st.integers(1, 6), st.integers(0, 9))
def test_no_example_is_drawn_again_before_all_of_its_stratum_were(size, draws, epochs, seed):
    sampler = Sampler([size], [1.0], draws, seed)
    row = np.concatenate([sampler.draws(0, epoch) for epoch in range(epochs)])
    for start in range(0, len(row), size):
        one_round = row[start : start + size]
        assert len(set(one_round)) == len(one_round)
        assert set(one_round) <= set(range(size))


@both_caches
def test_balanced_draws_every_class_equally_often(records, targets, cache):
    stream = TrainingStream(
        records, ALL, batch_size=8, seed=1, sampling="balanced", cache=cache, shuffle_buffer=5
    )
    assert stream.steps_per_epoch == 5
    for epoch in range(3):
        rows, _ = drawn(stream, epoch)
        assert targets[rows].value_counts().to_dict() == {0: 20, 1: 20}


@both_caches
def test_a_share_of_positives_is_drawn_and_the_common_class_goes_on_where_it_stopped(
    records, targets, cache
):
    sampling = PositiveShare(positive_share=0.9)
    stream = TrainingStream(
        records, ALL, batch_size=8, seed=1, sampling=sampling, cache=cache, shuffle_buffer=5
    )
    negatives = []
    while len(negatives) < (targets == 0).sum():
        rows, _ = drawn(stream, len(negatives) // 4)
        assert (targets[rows] == 1).sum() == 36
        negatives += [row for row in rows if targets[row] == 0]
    once = negatives[: (targets == 0).sum() // 4 * 4]
    assert len(set(once)) == len(once) > 8


@both_caches
def test_a_class_whose_share_is_less_than_one_draw_is_left_out(records, targets, cache):
    sampling = PositiveShare(positive_share=0.999)
    stream = TrainingStream(records, ALL, batch_size=8, seed=1, sampling=sampling, cache=cache)
    rows, _ = drawn(stream)
    assert (targets[rows] == 1).all()


@both_caches
def test_an_example_that_is_drawn_twice_looks_different(records, cache):
    stream = TrainingStream(
        records, ALL, batch_size=8, seed=1, sampling="balanced", ops=OPS, cache=cache
    )
    rows, images = drawn(stream)
    twice = next(row for row, number in collections.Counter(rows).items() if number > 1)
    assert not np.array_equal(*images[twice][:2])


@both_caches
def test_a_sampled_epoch_goes_on_from_any_position_and_nothing_is_decoded_before(
    records, cache, monkeypatch
):
    def stream():
        return TrainingStream(
            records, ALL, batch_size=8, seed=1, sampling="balanced", ops=OPS, cache=cache
        )

    rows, images = drawn(stream(), epoch=2)
    resumed = stream()
    calls = []
    monkeypatch.setattr(
        "pipeline.stream.source.decode", lambda *a, **k: calls.append(1) or decode(*a, **k)
    )
    again, images_again = drawn(resumed, epoch=2, examples=24)
    assert again == rows[24:]
    for row, seen in images_again.items():
        np.testing.assert_array_equal(seen, images[row][-len(seen) :])
    assert len(calls) == (16 if cache == "none" else 0)


def test_rarer_images_that_do_not_fit_into_memory_are_told(records):
    with pytest.raises(SettingsError, match=r"memory_share must hold .* got more than [\d,]+ byt"):
        TrainingStream(
            records, ALL, batch_size=8, seed=1, sampling="balanced", cache="none", memory_share=1e-9
        )


def test_of_many_classes_those_that_occur_are_balanced():
    strata = find_strata("balanced", LABELS["multiclass"], {"nv": 9, "bkl": 3, "mel": 0}, "here")
    assert [(s.classes, s.share, s.examples) for s in strata] == [((0,), 0.5, 9), ((2,), 0.5, 3)]


def test_positive_classes_are_drawn_together():
    label = LabelInfo(kind="multiclass", classes=("nv", "mel", "bcc"), positive=("bcc", "mel"))
    sampling = PositiveShare(positive_share=0.3)
    strata = find_strata(sampling, label, {"nv": 9, "mel": 3, "bcc": 2}, "here")
    assert [(s.classes, s.share, s.examples) for s in strata] == [((1, 2), 0.3, 5), ((0,), 0.7, 9)]


@pytest.mark.parametrize(
    ("sampling", "label", "counts", "message"),
    [
        ("balanced", LABELS["multilabel"], {"mass": 2}, "'natural' .* for a multilabel label"),
        ("balanced", LABELS["binary"], {}, "got none of any class"),
        (PositiveShare(positive_share=0.1), LABELS["binary"], {"benign": 3}, "none of malignant"),
        (
            PositiveShare(positive_share=0.1),
            LabelInfo(kind="multiclass", classes=("a", "b")),
            {"a": 1, "b": 1},
            "without positive classes, .* name them",
        ),
    ],
)
def test_a_sampling_that_the_examples_cannot_have_is_refused(sampling, label, counts, message):
    with pytest.raises(SettingsError, match=f"here: data.sampling must .*{message}"):
        find_strata(sampling, label, counts, "here")


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match=rf"positive_share must be in \(0, 1\), got {share}"):
        PositiveShare(positive_share=share)
