"""`python -m trainer.preflight`: what it prints, what it refuses, what it keeps."""

import importlib.metadata
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from records_factory import write_toy_records
from trainer.preflight import asking
from trainer.preflight.__main__ import build_parser, main
from trainer.preflight.compiler import Compiler, CompilerError, Verdict
from trainer.preflight.estimate import Roofline, epoch_s
from trainer.preflight.subject import read_subject
from trainer.preflight.tpu_types import TPU_TYPES

SMALL = ("--set", "model.backbone=small-cnn", "--set", "optimizer.ema_decay=0.9")
TINY = (*SMALL, "--size_px", "16", "--tpu_type", "v3-8")
has_compiler = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("jax", "libtpu"))),
    reason="the extra preflight is not installed; make install does",
)


@pytest.fixture
def compiled(monkeypatch):
    """The modules that were compiled, each with a verdict that 100 bytes an example make."""
    modules = []

    def compile_module(compiler, stablehlo):
        batch = int(re.search(r"tensor<(\d+)x16x16x3xui8>", stablehlo)[1])
        modules.append(stablehlo)
        if batch > 40:
            needed = f"({batch}.00G) exceeds available HBM (40.00G)"
            return Verdict(refusal=f"RESOURCE_EXHAUSTED: HLO temporaries {needed}")
        if batch == 37:
            return Verdict(refusal="RESOURCE_EXHAUSTED: registers")
        return Verdict(temporary_bytes=batch << 30, flops=1e9 * batch, moved_bytes=2e6 * batch)

    monkeypatch.setattr(Compiler, "_compile", compile_module)
    monkeypatch.setattr(asking, "trace_apart", asking.trace)  # a process each takes its time
    return modules


@has_compiler
def test_a_fused_recipe_on_records_compiles_for_a_tpu(tmp_path, capsys):
    write_toy_records(tmp_path / "records")
    flags = ("--records", str(tmp_path / "records"), "--set", "model.fusion=concat")
    mix = ("--set", 'augment=[{op = "mixup"}, {op = "cutmix"}]')
    more = ("--set", "train.batch_size=8", "--cache", str(tmp_path / "cache"))
    asked = (*SMALL, *flags, *mix, *more, "--tpu_type", "v3-8", "--price_per_hour", "8")
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert re.search(r"^training +1 +8 +yes +0\.\d\d GiB \(0%\)", told, re.MULTILINE), told
    assert re.search(r"^evaluation +1 +8 +yes ", told, re.MULTILINE), told
    bound = r"an epoch of 30 images and 10 validated: at least \S*[1-9]\S* s, \S*[1-9]\S* to pay$"
    assert re.search(bound, told, re.MULTILINE), told
    assert len(list((tmp_path / "cache").iterdir())) == 2


@has_compiler
def test_a_module_that_the_compiler_refuses_is_told_in_its_words(tmp_path):
    compiler = Compiler(tpu_type="v5e-8", cache_folder=str(tmp_path), timeout_s=100)
    op = "stablehlo.custom_call @nobody_knows(%arg0) : (tensor<4xf32>) -> tensor<4xf32>"
    verdict = compiler.verdict(
        "module @m { func.func public @main(%arg0: tensor<4xf32>) -> tensor<4xf32> {\n"
        f'  %0 = {op} loc("head/planted")\n  return %0 : tensor<4xf32>\n}} }}'
    )
    assert verdict.refusal is not None
    assert not verdict.is_too_large
    assert "nobody_knows" in verdict.refusal


def test_a_compiler_that_takes_too_long_is_ended_and_told(tmp_path):
    compiler = Compiler(tpu_type="v3-8", cache_folder=str(tmp_path), timeout_s=0.05)
    with pytest.raises(CompilerError, match=r"done in 0 s, got no answer; give a larger --timeout"):
        compiler._compile("module @m {}")
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_aborts_is_told_with_its_last_words(tmp_path, monkeypatch):
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\necho 'F0000 check failed: x' >&2\nkill -ABRT $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    compiler = Compiler(tpu_type="v3-8", cache_folder=str(tmp_path / "cache"), timeout_s=60)
    told = "was ended by SIGABRT; its last words: F0000 check failed: x"
    with pytest.raises(CompilerError, match=told):
        compiler.verdict("module @m {}")
    assert not (tmp_path / "cache").exists()


def test_what_is_known_is_not_compiled_again(compiled, tmp_path, capsys):
    asked = (*TINY, "--batch", "8", "--cache", str(tmp_path))
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert len(compiled) == 2
    assert main(asked) == 0
    assert len(compiled) == 2
    assert capsys.readouterr().out == told
    assert main((*asked, "--set", "optimizer.clip_norm=1")) == 0  # another training step
    assert len(compiled) == 3


def test_a_batch_that_does_not_fit_is_refused_with_the_largest_that_would(
    compiled, tmp_path, capsys
):
    assert main((*TINY, "--batch", "32,96", "--cache", str(tmp_path))) == 1
    told = capsys.readouterr()
    assert re.search(r"^training +96 +768 +no +96\.00 GiB \(600%\)$", told.out, re.MULTILINE)
    *asked, line = told.err.splitlines()
    assert asked[0] == "preflight: training, 32 a core …"
    assert line == (
        "preflight: error: v3-8: batch 96 a core must fit its memory, got 96.00 GiB needed "
        "(largest maps: 0.00 GiB block1_conv, 0.00 GiB block2_conv, 0.00 GiB block3_conv); "
        "the largest that fits is 40 a core, 320 in all: --set train.batch_size=320"
    )


def test_a_refusal_for_another_memory_than_the_cores_is_no_matter_of_the_batch(
    compiled, tmp_path, capsys
):
    assert main((*TINY, "--batch", "37", "--cache", str(tmp_path))) == 1
    told = capsys.readouterr()
    assert re.search(r"^training +37 +296 +refused$", told.out, re.MULTILINE)
    assert "the step must compile, got from the compiler: RESOURCE_EXHAUSTED: reg" in told.err


def test_the_largest_batch_is_looked_for_above_what_fits(compiled, tmp_path, capsys):
    assert main((*TINY, "--batch", "30", "--largest_batch", "--cache", str(tmp_path))) == 0
    told = capsys.readouterr().out
    assert told.endswith("the largest batch that fits: 40 a core, 320 in all\n")


def test_each_stage_is_a_step_of_its_own(compiled, tmp_path, capsys):
    stages = 'stage=[{epochs = 1, freeze = "backbone"}, {}]'
    assert main((*TINY, "--batch", "8", "--cache", str(tmp_path), "--set", stages)) == 0
    told = capsys.readouterr().out
    names = re.findall(r"^(training, stage \d|evaluation) ", told, re.MULTILINE)
    assert names == ["training, stage 1", "training, stage 2", "evaluation"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "model.backbone=small-cn"], "unknown backbone 'small-cn'; did you mean"),
        (["--size_px", "4"], "--size_px must be 8 or more, got 4"),
        (["--batch", "0"], "--batch must be 1 or more, got 0"),
        (["--set", "train.batch_size=12"], "must be a multiple of the 8 cores of v3-8, got 12"),
        (["--classes", "3", "--label", "binary"], "--classes must be 2 with --label binary, got 3"),
        (["--timeout_s", "0"], "--timeout_s must be above 0, got 0.0"),
        (["--records", "nowhere"], "--size_px must be left out with --records, which say it, got"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(flags, message, capsys):
    assert main((*TINY, *flags)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("size_px", ["16", "128"])
def test_the_size_that_is_asked_for_goes_over_the_recipes(size_px):
    recipe = ("--set", "data.image_size_px=64")
    flags = build_parser().parse([*SMALL, *recipe, "--tpu_type", "v3-8", "--size_px", size_px])
    assert read_subject(flags).config.data.image_size_px == int(size_px)


def test_a_tracing_process_that_is_ended_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(asking, "trace", _end)
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    flags = build_parser().parse([*TINY])
    with pytest.raises(asking.TracingError, match=r"8 a core: .* but was ended; was there"):
        asking.trace_apart(read_subject(flags), 8, 8)
    assert (tmp_path / "started").exists()


def _end(*args):
    Path(os.environ["STARTED"]).touch()
    os._exit(9)


TRACING = """
import sys
from trainer.preflight import asking
from trainer.preflight.__main__ import build_parser
from trainer.preflight.subject import read_subject

if __name__ == "__main__":
    subject = read_subject(build_parser().parse(sys.argv[1:]))
    steps = asking.trace_apart(subject, 8, 8)
    assert [step.name for step in steps] == ["training", "evaluation"]
    assert "tensorflow" not in sys.modules
    print("ready", flush=True)
    asking.trace_apart(subject, 16, 8)
"""


def test_tensorflow_stays_with_the_tracing_process_which_ends_with_its_parent(tmp_path):
    script = tmp_path / "ask.py"
    script.write_text(TRACING)
    process = subprocess.Popen(
        [sys.executable, str(script), *TINY],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    tracing = _tracing_process(process.pid)
    process.kill()
    process.wait()
    process.stdout.read()  # the process that traces has it open, too
    assert not Path(f"/proc/{tracing}/exe").exists()


def test_ctrl_c_ends_it_with_one_line(tmp_path):
    command = [sys.executable, "-m", "trainer.preflight", *TINY, "--cache", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, all of which Ctrl-C is for
    )
    tracing = _tracing_process(process.pid)
    until = time.monotonic() + 60
    while "tensorflow" not in Path(f"/proc/{tracing}/maps").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told == "preflight: stopped by SIGINT; the same command again goes on from here\n"


def _tracing_process(parent):
    """That which it starts next."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        time.sleep(0.01)
    raise AssertionError("no process was started")


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, capsys):
    def version(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert main(TINY) == 2
    assert capsys.readouterr().err == (
        "preflight: error: the TPU compiler must be installed, got no package jax; run "
        "pip install -c constraints.txt -e '.[preflight]'\n"
    )


def test_help_and_mistakes_start_neither_tensorflow_nor_jax():
    code = (
        "import sys\n"
        "from trainer.preflight.__main__ import main\n"
        "assert main(['--tpu_type', 'v3-8', '--set', 'model.backbon=x']) == 2\n"
        "try:\n    main(['--help'])\nexcept SystemExit as left:\n    assert left.code == 0\n"
        "assert not {'tensorflow', 'jax', 'jaxlib'} & {*sys.modules}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_step_takes_as_long_as_the_slower_of_arithmetic_and_traffic():
    tpu = TPU_TYPES["v3-8"]
    verdict = Verdict(flops=61.5e12, moved_bytes=900e9, temporary_bytes=8 << 30)
    roofline = Roofline(tpu=tpu, verdict=verdict, batch=64)
    assert (roofline.compute_s, roofline.memory_s) == (1.0, 2.0)
    assert roofline.bound == "bandwidth"
    assert roofline.images_per_second == 64 * 8 / 2
    assert roofline.memory_share == 0.5
    evaluation = Roofline(tpu=tpu, verdict=Verdict(flops=61.5e12 / 2), batch=64)
    # 1,100 images are two whole batches of 512; 600 validated are two with padding.
    assert epoch_s(roofline, evaluation, 1100, 600) == 2 * 2.0 + 2 * 0.5
