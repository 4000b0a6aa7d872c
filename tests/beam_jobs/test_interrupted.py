"""Jobs stopped, killed, raced and damaged: what is there is whole, and the end is the same."""

import hashlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from beam_jobs.make_records import main
from beam_jobs.verify_records import main as verify_records
from dataset_factory import record_flags, write_dataset
from pipeline.records.manifest import read_manifest

SIZES = "256,128"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(A dataset that takes about a second, what an undisturbed run made of it)."""
    folder = tmp_path_factory.mktemp("dataset")
    write_dataset(folder, rows=96, patients=20, times=8)
    assert main(flags_for(folder, folder / "out")) == 0
    return folder, digests(folder / "out")


def flags_for(folder, output, **over):
    return record_flags(folder, output, sizes=SIZES, rows_per_shard="6", **over)


def digests(output):
    """SHA-256 of every file of the record sets and of the plan."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def start(flags):
    return subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.make_records", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_shard(output, process):
    """Returns when at least one shard is there under its name, and the job still runs."""
    give_up = time.monotonic() + 60
    while not list(output.glob("256/*.tfrecord-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_it_within_5_s_and_leaves_only_whole_shards(made, tmp_path, workers):
    folder, wanted = made
    output = tmp_path / "out"
    process = start([*flags_for(folder, output), "--workers", workers])
    wait_for_a_shard(output, process)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert time.monotonic() - begun < 5
    assert "the same command again goes on from here" in error
    assert not list(output.rglob("*.tmp"))
    for name, digest in digests(output).items():
        assert wanted[name] == digest, name  # each file that is there is the undisturbed run's
    assert main(flags_for(folder, output)) == 0
    assert digests(output) == wanted


def kill_at_random(made, output, moments, seed):
    """Runs the job again and again, killed at random moments of an undisturbed run's time."""
    folder, wanted = made
    random.seed(seed)
    begun = time.monotonic()
    assert start(flags_for(folder, output / "timed")).wait() == 0
    lasts = time.monotonic() - begun
    for moment in range(moments):
        target = output / f"out{moment // 4}"  # four kills on the same output, then another
        process = start(flags_for(folder, target))
        time.sleep(random.uniform(0.3, 1.0) * lasts)
        process.kill()
        process.communicate()
        for name, digest in digests(target).items() if target.exists() else ():
            assert name.endswith(".tmp") or wanted[name] == digest, name
        if moment % 4 == 3:
            assert main(flags_for(folder, target)) == 0
            assert digests(target) == wanted


def test_a_killed_job_run_again_gives_the_same_bytes(made, tmp_path):
    kill_at_random(made, tmp_path, moments=4, seed=1)


@pytest.mark.slow
def test_killed_at_20_random_moments_it_gives_the_same_bytes(made, tmp_path):
    kill_at_random(made, tmp_path, moments=20, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2", "7"])
def test_any_number_of_workers_gives_the_same_bytes(made, tmp_path, workers):
    folder, wanted = made
    assert main([*flags_for(folder, tmp_path / "out"), "--workers", workers]) == 0
    assert digests(tmp_path / "out") == wanted


def test_two_jobs_at_once_in_one_folder_both_end_well(made, tmp_path):
    folder, wanted = made
    jobs = [start(flags_for(folder, tmp_path / "out")) for _ in range(2)]
    for job in jobs:
        _, error = job.communicate(timeout=120)
        assert job.returncode == 0, error
    assert digests(tmp_path / "out") == wanted


def test_of_two_plans_at_once_one_wins_and_the_other_is_told(made, tmp_path):
    folder, _ = made
    jobs = [start(flags_for(folder, tmp_path / "out", seed=seed)) for seed in ("1", "2")]
    ends = [(job.communicate(timeout=120)[1], job.returncode) for job in jobs]
    assert sorted(code for _, code in ends) == [0, 1], ends
    [error] = [error for error, code in ends if code == 1]
    assert "got another: folds.seed" in error
    assert verify_records([str(tmp_path / "out" / "256")]) == 0


def test_only_what_is_missing_or_damaged_is_made_again(made, tmp_path):
    folder, wanted = made
    output = tmp_path / "out"
    assert main(flags_for(folder, output)) == 0
    first, second, third, *others = sorted((output / "256").glob("*.tfrecord-*"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    (output / "plan" / "done" / "256" / f"{third.name}.json").write_text("{")
    (output / "plan" / "plan.parquet").write_bytes(b"damaged")
    before = {path: path.stat().st_mtime_ns for path in others}
    assert main(flags_for(folder, output)) == 0
    assert digests(output) == wanted
    assert {path: path.stat().st_mtime_ns for path in others} == before


def test_a_size_of_other_settings_is_refused_until_overwrite(made, tmp_path, capsys):
    folder, wanted = made
    output = tmp_path / "out"
    assert main(flags_for(folder, output)) == 0
    assert main(flags_for(folder, output, quality="60")) == 1
    assert "got other quality (there 95, asked 60)" in capsys.readouterr().err
    assert digests(output) == wanted
    assert main([*flags_for(folder, output, quality="60"), "--overwrite"]) == 0
    assert read_manifest(str(output / "256")).render["quality"] == 60
    assert verify_records([str(output / "256")]) == 0


def test_overwrite_takes_the_place_of_another_plan_or_a_damaged_one(made, tmp_path, capsys):
    folder, wanted = made
    output = tmp_path / "out"
    assert main(flags_for(folder, output, seed="7")) == 0
    assert main([*flags_for(folder, output), "--overwrite"]) == 0
    assert digests(output) == wanted
    (output / "plan" / "plan.json").write_text("{")
    assert main(flags_for(folder, output)) == 1
    assert "plan.json: not a plan" in capsys.readouterr().err
    assert main([*flags_for(folder, output), "--overwrite"]) == 0
    assert digests(output) == wanted


def test_more_failures_than_allowed_is_3_and_the_manifest_says_so(tmp_path, capsys):
    write_dataset(tmp_path)
    names = sorted(path.name for path in (tmp_path / "jpeg").iterdir())
    (tmp_path / "jpeg" / names[0]).unlink()
    flags = record_flags(tmp_path, tmp_path / "out")
    assert main(flags) == 3
    assert "1 of 24 rows failed, more than --max_failures 0.001 allows" in capsys.readouterr().err
    assert read_manifest(str(tmp_path / "out" / "64")).failures_over_limit
    assert main([*flags, "--max_failures", "0.05"]) == 0
    assert not read_manifest(str(tmp_path / "out" / "64")).failures_over_limit


def test_a_reader_never_sees_a_shard_half_written(made, tmp_path):
    folder, wanted = made
    output, seen, stop = tmp_path / "out", set(), threading.Event()

    def watch():
        while not stop.is_set():
            for path in output.glob("*/*.tfrecord-*"):
                name = str(path.relative_to(output))
                seen.add((name, hashlib.sha256(path.read_bytes()).hexdigest()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert main(flags_for(folder, output)) == 0
    finally:
        stop.set()
        watcher.join()
    assert seen
    assert all(wanted[name] == digest for name, digest in seen)
