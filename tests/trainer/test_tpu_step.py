"""What the default recipe's step comes to on a TPU, by its compiler: minutes a claim."""

import pytest

from benchmarks.tpu_step import ABOARD, MIXING, keras_step, our_step
from trainer.preflight.__main__ import default_cache, main
from trainer.preflight.compiler import Compiler

pytestmark = [pytest.mark.tpu, pytest.mark.slow]
B0 = ("efficientnet-b0", 256, 64)
B4 = ("efficientnet-b4", 380, 32)


@pytest.fixture
def moved_bytes():
    """Those of a step on a core of a v3; what is known from before is not compiled again."""
    compiler = Compiler(tpu_type="v3-8", cache_folder=default_cache(), timeout_s=3 * 3600.0)
    return lambda stablehlo: compiler.verdict(stablehlo).moved_bytes


@pytest.mark.parametrize("of", [B0, B4])
def test_the_default_step_moves_less_than_045_of_the_plain_float32_step(moved_bytes, of):
    ours = moved_bytes(our_step(*of, 8, *ABOARD))
    assert ours <= 0.45 * moved_bytes(keras_step("float32", *of))


def test_what_augments_on_the_device_adds_a_tenth_at_most(moved_bytes):
    ours = moved_bytes(our_step(*B0, 8, *ABOARD))
    assert moved_bytes(our_step(*B0, 8, *ABOARD, MIXING)) <= 1.1 * ours


def test_b7_at_600_px_is_refused_for_128_a_core_with_the_largest_batch_that_fits(capsys):
    asked = ("--config", "configs/siim2020/b7.toml", "--size_px", "600", "--tpu_type", "v3-8")
    assert main((*asked, "--batch", "128")) == 1
    told = capsys.readouterr().err
    assert "batch 128 a core must fit its memory" in told
    assert "block2a_expand_conv" in told
    assert "the largest that fits is 32 a core, 256 in all" in told
