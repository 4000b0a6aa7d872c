"""`trainer.preflight.largest`: the largest batch that fits, in few questions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.preflight.compiler import Verdict
from trainer.preflight.largest import batches_up_to, largest_batch

GRANTED = 15.5 * 2**30
REFUSAL = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "({:.2f}G) exceeds available HBM (15.50G)"
)


def compiler_of(memory_of, asked):
    """A compiler that refuses what needs more than `GRANTED`."""

    def verdict(batch):
        asked.append(batch)
        needed = memory_of(batch)
        if needed > GRANTED:
            return Verdict(refusal=REFUSAL.format(needed / 2**30))
        return Verdict(temporary_bytes=int(needed))

    return verdict


def search(memory_of, limit):
    asked = []
    verdict_of = compiler_of(memory_of, asked)
    known = {limit: verdict_of(limit)}
    if known[limit].refusal is None:
        return limit, asked
    found = largest_batch(verdict_of, known, limit_bytes=GRANTED)
    return found, asked


@given(
    st.integers(2, 400),
    st.floats(0, 2e10),
    st.floats(1e6, 2e10),
    st.lists(st.floats(0.9, 1.1), min_size=401, max_size=401),
)
def test_it_is_the_one_that_trying_all_would_find(limit, fixed, each, jitter):
    def memory_of(batch):
        return fixed + max(each * b * jitter[b] for b in range(1, batch + 1))

    found, asked = search(memory_of, limit)
    fitting = [b for b in (*batches_up_to(limit), limit) if memory_of(b) <= GRANTED]
    assert found == (max(fitting) if fitting else None)
    assert len(asked) == len(set(asked))  # nothing is asked twice
    assert len(asked) <= 2 * math.log2(len(batches_up_to(limit)) + 2) + 3


def test_memory_that_grows_in_a_line_is_found_in_three_compilations():
    found, asked = search(lambda batch: 0.5e9 + 0.33e9 * batch, 128)
    assert found == 48
    assert len(asked) <= 4  # the refused one among them


@pytest.mark.parametrize(("limit", "sizes"), [(2, (1,)), (9, (1, 2, 4, 8)), (24, (1, 2, 4, 8, 16))])
def test_batches_are_powers_and_then_multiples_of_eight(limit, sizes):
    assert batches_up_to(limit) == sizes


def test_a_refusal_tells_what_is_needed_and_what_is_granted():
    verdict = Verdict(refusal=REFUSAL.format(23.67))
    assert verdict.is_too_large
    assert verdict.memory_bytes == pytest.approx(23.67 * 2**30)
    assert verdict.granted_bytes == pytest.approx(15.5 * 2**30)
    other = Verdict(refusal='INTERNAL: no such thing: op_name="block2a/conv" and op_name="b"')
    assert not other.is_too_large
    assert other.refused_ops == ["block2a/conv", "b"]
