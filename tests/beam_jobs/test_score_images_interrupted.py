"""Scorings killed, damaged and continued: what is whole is kept, and the end is the same."""

import hashlib
import signal
import subprocess
import sys
import time

import pytest

from beam_jobs import score_job
from beam_jobs.score_images import main
from dataset_factory import write_dataset
from pipeline.scoring.work import alone_in, work_folder


@pytest.fixture(scope="module")
def made(exported_run, tmp_path_factory):
    """(96 images that take about a second, two of them bad; the scores of an undisturbed run)."""
    folder = tmp_path_factory.mktemp("images")
    write_dataset(folder, rows=96, patients=20, times=8)
    (folder / "run").symlink_to(exported_run / "run")
    for path in sorted((folder / "jpeg").iterdir())[30:70:39]:
        path.write_bytes(path.read_bytes()[:900])
    assert main(flags_for(folder, folder / "undisturbed.csv")) == 0
    return folder, digests(folder / "undisturbed.csv")


def flags_for(folder, output, **over):
    flags = {
        "models": f"{folder}/run", "csv": f"{folder}/train.csv", "images": f"{folder}/jpeg",
        "output": str(output), "rows_per_shard": "6", "max_failures": "0.05", **over,
    }  # fmt: skip
    return [word for name, value in flags.items() for word in (f"--{name}", value)]


def digests(output):
    """Of the output and of the rows that failed."""
    paths = (output, output.with_suffix(f".failed{output.suffix}"))
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.fixture
def stopped(made, tmp_path, monkeypatch):
    """A scoring that was stopped between its last shard and its output."""
    with monkeypatch.context() as patch:

        def stop(*args):
            raise KeyboardInterrupt

        patch.setattr(score_job, "write_output", stop)
        with pytest.raises(KeyboardInterrupt):
            main(flags_for(made[0], tmp_path / "s.csv"))
    assert not (tmp_path / "s.csv").exists()
    return tmp_path / "s.csv"


def test_only_what_is_missing_or_damaged_is_scored_again(made, stopped, monkeypatch):
    folder, wanted = made
    work = stopped.parent / "s.csv.shards"
    (work / "00003.parquet").unlink()
    damaged = work / "00005.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (work / "00007.json").write_text("{")
    (work / "plan.parquet").write_bytes(b"damaged")
    before = {path: path.stat().st_mtime_ns for path in work.glob("0*.parquet")}
    written = {}

    def notice(output, *args):
        written.update({p: p.stat().st_mtime_ns for p in work.glob("0*.parquet")})
        return finish(output, *args)

    finish = score_job.write_output
    monkeypatch.setattr(score_job, "write_output", notice)
    assert main(flags_for(folder, stopped)) == 0
    again = {path.stem for path, moment in written.items() if before.get(path) != moment}
    assert again == {"00003", "00005", "00007"}
    assert digests(stopped) == wanted
    assert not work.exists()


def test_other_settings_are_refused_until_overwrite(made, stopped, capsys):
    folder, wanted = made
    assert main(flags_for(folder, stopped, rows_per_shard="8")) == 1
    assert "must be the one that is asked for, got other shards (there 16, asked 12)" in (
        capsys.readouterr().err
    )
    assert not stopped.exists()
    assert main([*flags_for(folder, stopped, rows_per_shard="8"), "--overwrite"]) == 0
    assert digests(stopped) == wanted


def test_a_second_scoring_to_the_same_output_at_once_is_refused(made, tmp_path, capsys):
    with alone_in(work_folder(str(tmp_path / "s.csv"))):
        assert main(flags_for(made[0], tmp_path / "s.csv")) == 2
    assert "no other process must score to this --output" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_killed_scoring_run_again_gives_the_same_bytes(made, tmp_path, how, code):
    folder, wanted = made
    output, work = tmp_path / "s.csv", tmp_path / "s.csv.shards"
    flags = flags_for(folder, output, batch_size="32")
    process = subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.score_images", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up = time.monotonic() + 120
    while not (work / "00001.json").exists() and not (work / "00004.json").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.005)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not output.exists()
    assert 0 < len(list(work.glob("0*.json"))) < 16
    assert main(flags) == 0
    assert digests(output) == wanted
