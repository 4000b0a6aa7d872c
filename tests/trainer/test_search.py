"""`python -m trainer.search` with stand-ins for trials: what is tried, kept, ranked and shown."""

import contextlib
import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SettingsError
from pipeline.predictions import concatenate, make_predictions, read_predictions, write_predictions
from pipeline.records.manifest import read_manifest, read_rows, write_manifest
from records_factory import write_toy_records
from trainer.config import load_config, resolve
from trainer.folds import choose_folds, fold_parts
from trainer.intervals import auc, difference_intervals
from trainer.run_folder import fold_digests
from trainer.search.__main__ import build_parser, main
from trainer.search.run import search
from trainer.task import build_parser as build_task_parser

RECIPE = """
[model]
backbone = "small-cnn"
[train]
epochs = 2
batch_size = 8
"""
RATES = ("--grid", "optimizer.learning_rate=1e-3,1e-4")


class Ended:
    """A process that has ended."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code

    def terminate(self):
        raise AssertionError("it has ended")

    wait = poll


class Trials:
    """Stands in for processes: predicts better the nearer the learning rate is to 1e-3."""

    def __init__(self, codes=None, output="task: error: <script>no</script>"):
        self.started = []  # (name of the folder, folds, settings)
        self.codes = codes or {}  # by learning rate
        self.output = output

    @contextlib.contextmanager
    def launching(self, folder):
        yield self.launch

    def launch(self, folder, words, cores):
        flags = build_task_parser().parse(words)
        assert flags.run == folder
        self.started.append((Path(folder).name, flags.folds, tuple(flags.overrides)))
        manifest = read_manifest(flags.records)
        config = resolve(load_config(flags.config, flags.overrides), manifest)
        rate = config.optimizer.learning_rate
        code = self.codes.get(rate, 0)
        Path(folder, "output.txt").write_text(f"epoch 1\n{self.output}\n\n")
        for fold in choose_folds(fold_parts(manifest, config.data), flags.folds):
            if code == 0:
                predict(flags.records, folder, config, manifest, fold, rate)
        return Ended(code)


def predict(records, folder, config, manifest, fold, rate):
    """A complete fold, as a task of this recipe would leave it."""
    rows = read_rows(records)
    rows = rows[rows["part"].isin(fold.validation)].assign(fold=fold.fold)
    noise = np.random.default_rng(fold.number).normal(size=(len(rows), 1))
    logits = rows["target"].to_numpy()[:, None] + noise * (1 + abs(np.log10(rate) + 3))
    about = fold_digests(config, manifest, fold)
    predictions = make_predictions(
        rows, logits, 1 / (1 + np.exp(-logits)), manifest.label, {"fold": fold.number, **about}
    )
    home = Path(folder, f"fold{fold.number}")
    (home / "checkpoints" / "step-1").mkdir(parents=True, exist_ok=True)
    write_predictions(str(home / "predictions.parquet"), predictions)
    losses = [{"epoch": epoch, "loss": 1 / epoch, "validation": {"auc": 0.5}} for epoch in (1, 2)]
    (home / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in losses))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "records"
    write_toy_records(folder, rows=160, size_px=16)
    return folder


@pytest.fixture
def words(records, tmp_path):
    """The flags that every search of a test has."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    flags = ["--records", str(records), "--run", str(tmp_path / "search"), "--draws", "40"]
    return [*flags, "--config", str(tmp_path / "recipe.toml"), "--folds", "0,1"]


def run(words, *flags, trials=None):
    trials = trials or Trials()
    code = search(build_parser().parse([*words, *flags]), trials.launching)
    return code, trials.started


def results(tmp_path):
    return json.loads((tmp_path / "search" / "search.json").read_text())


def test_every_combination_is_a_run_folder_named_by_number_and_recipe(words, tmp_path):
    flags = (*RATES, "--grid", "loss.gamma=1,2", "--set", "loss.kind=focal")
    code, started = run(words, *flags)
    assert code == 0
    folders = sorted(path.name for path in (tmp_path / "search" / "trials").iterdir())
    assert [folder for folder, _, _ in started] == folders
    assert [name[:4] for name in folders] == ["001-", "002-", "003-", "004-"]
    assert len({name[4:] for name in folders}) == 4
    assert [folds for _, folds, _ in started] == ["0,1"] * 4
    settings = ("loss.kind=focal", "optimizer.learning_rate=1e-4", "loss.gamma=1")
    assert started[2][2] == settings
    trial = json.loads((tmp_path / "search" / "trials" / folders[2] / "trial.json").read_text())
    assert trial["overrides"] == {"optimizer.learning_rate": "1e-4", "loss.gamma": "1"}


def test_combinations_that_come_to_one_recipe_run_once(words):
    code, started = run(words, "--grid", "optimizer.learning_rate=1e-3,0.001,0.0010")
    assert code == 0
    assert len(started) == 1


def test_the_same_command_again_starts_nothing(words, tmp_path, capsys):
    run(words, *RATES)
    first = results(tmp_path)
    code, started = run(words, *RATES)
    assert (code, started) == (0, [])
    assert "2 trials on folds 0, 1: 2 done, 0 failed, 0 to train" in capsys.readouterr().out
    assert results(tmp_path) == first


def test_further_values_add_trials_to_those_that_are_there(words, tmp_path, capsys):
    run(words, *RATES)
    code, started = run(words, "--grid", "optimizer.learning_rate=1e-4,1e-2")
    assert code == 0
    assert [folder[:4] for folder, _, _ in started] == ["003-"]
    assert "1 more by other searches" in capsys.readouterr().out
    assert {line["trial"] for line in results(tmp_path)["trials"]} == {1, 2, 3}


def test_further_folds_are_trained_in_the_same_trials(words, tmp_path):
    _, first = run(words, *RATES)
    code, again = run(words, *RATES, "--folds", "all")
    assert code == 0
    assert [(folder, "0,1,2,3", of) for folder, _, of in first] == again
    assert all(len(line["by_fold"]) == 4 for line in results(tmp_path)["trials"])


def test_a_trial_whose_records_have_changed_is_trained_again(words, records, tmp_path):
    run(words, *RATES)
    manifest = read_manifest(str(records))
    shards = [dataclasses.replace(shard, sha256="0" * 64) if shard.part == "fold1" else shard
              for shard in manifest.shards]  # fmt: skip
    try:
        write_manifest(str(records), dataclasses.replace(manifest, shards=tuple(shards)))
        _, started = run(words, *RATES)
    finally:
        write_manifest(str(records), manifest)
    assert len(started) == 2


def test_a_task_that_trains_another_recipe_than_was_planned_is_a_failure(words, tmp_path):
    trials = Trials()
    trials.launch = lambda folder, words, cores: Ended(0)  # without a prediction
    assert run(words, *RATES, trials=trials)[0] == 1
    assert "not of the recipe that was planned" in results(tmp_path)["trials"][0]["failure"]


def test_a_trial_that_was_broken_off_goes_on_in_its_folder(words, tmp_path):
    _, first = run(words, *RATES, trials=Trials(codes={1e-4: 143}))
    assert [line["state"] for line in results(tmp_path)["trials"]] == ["done", "unfinished"]
    code, again = run(words, *RATES)
    assert code == 0
    assert again == first[1:]


def test_a_failed_trial_is_told_and_tried_again_only_when_asked(words, tmp_path, capsys):
    code, started = run(words, *RATES, trials=Trials(codes={1e-4: 1}))
    assert code == 0
    assert len(started) == 2
    reason = "exit code 1: task: error: <script>no</script>"
    assert f"002 (optimizer.learning_rate=1e-4) failed: {reason}" in capsys.readouterr().out
    assert results(tmp_path)["trials"][1]["failure"] == reason
    assert run(words, *RATES) == (0, [])
    assert "1 done, 1 failed, 0 to train" in capsys.readouterr().out
    _, retried = run(words, *RATES, "--retry_failed")
    assert retried == started[1:]
    assert [line["state"] for line in results(tmp_path)["trials"]] == ["done", "done"]


def test_a_search_whose_every_trial_failed_exits_1(words, tmp_path, capsys):
    code, _ = run(words, *RATES, trials=Trials(codes={1e-3: 1, 1e-4: -9}))
    assert code == 1
    assert "ended by SIGKILL, as the kernel does where memory runs out" in capsys.readouterr().out
    assert [line["state"] for line in results(tmp_path)["trials"]] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grid", "optimizer.learning_rat=1,2"], "did you mean 'learning_rate'?"),
        ([*RATES, "--grid", "train.epochs=3,0"], "epochs must be 1 or more, got 0"),
        (["--grid", "train.batch_size=8,900"], "train.batch_size must be 120 or less"),
        (["--grid", "data.folds=2,4"], "all trials must validate on the same folds or parts"),
        ([*RATES, "--folds", "0,9"], "--folds must be all, or among 0, 1, 2, 3, got '9'"),
        ([*RATES, "--parallel", "500"], "--parallel must be in 1.."),
        ([*RATES, "--replicas", "3"], "must be a multiple of the 3 replicas, got 8"),
        ([*RATES, "--folds", "1", "--prune"], "--prune must be given with two folds or more"),
        ([*RATES, "--set", "optimizer.learning_rate=1"], "a key must be set or searched, got"),
        ([*RATES, "--draws", "0"], "--draws must be 1 or more, got 0"),
    ],
)
def test_a_combination_at_fault_is_told_before_anything_runs(words, tmp_path, flags, message):
    trials = Trials()
    with pytest.raises(SettingsError) as refused:
        run(words, *flags, trials=trials)
    assert message in str(refused.value)
    assert trials.started == []
    assert not (tmp_path / "search").exists()


def test_a_search_of_another_recipe_is_refused_by_what_differs_and_fresh_replaces_it(
    words, tmp_path
):
    run(words, *RATES)
    other = (*RATES, "--set", "train.epochs=3")
    with pytest.raises(SettingsError, match=r"train\.epochs \(there 2, asked 3\)"):
        run(words, *other)
    code, started = run(words, *other, "--fresh")
    assert code == 0
    assert [folder[:4] for folder, _, _ in started] == ["001-", "002-"]
    assert len(list((tmp_path / "search" / "trials").iterdir())) == 2


def test_a_trial_planned_with_other_defaults_is_not_taken_for_one_of_these(words, tmp_path):
    run(words, *RATES)
    [first, _] = sorted((tmp_path / "search" / "trials").iterdir())
    first.rename(first.with_name("001-01234567"))
    with pytest.raises(SettingsError, match="other defaults or other extra records; give another"):
        run(words, *RATES)


def test_trials_are_ranked_by_the_pooled_figure_with_the_paired_difference(words, tmp_path, capsys):
    run(words, "--grid", "optimizer.learning_rate=1e-5,1e-4,1e-3")
    lines = results(tmp_path)["trials"]
    assert [line["trial"] for line in lines] == [3, 2, 1]
    assert lines[0]["pooled"] > lines[1]["pooled"] > lines[2]["pooled"]
    assert lines[0]["difference"] is None

    def of(line):
        folds = [read_predictions(str(tmp_path / "search" / line["folder"] / f"fold{fold}"))
                 for fold in (0, 1)]  # fmt: skip
        return concatenate(folds, {})

    expected = difference_intervals(of(lines[2]), of(lines[0]), {"AUC": auc}, draws=40)["AUC"]
    assert lines[2]["difference"] == pytest.approx(lines[2]["pooled"] - lines[0]["pooled"])
    assert lines[2]["difference_low"] == expected.low
    assert lines[2]["difference_high"] == expected.high
    folds = np.array([*lines[2]["by_fold"].values()])
    assert (lines[2]["mean"], lines[2]["std"]) == (folds.mean(), folds.std(ddof=1))
    printed = capsys.readouterr().out
    assert expected.text(is_difference=True) in printed
    assert f"{folds.mean():.4f} ± {folds.std(ddof=1):.4f}" in printed


def test_the_other_metric_ranks_when_asked(words, tmp_path, capsys):
    run(words, *RATES, "--metric", "average_precision")
    first, second = results(tmp_path)["trials"]
    assert first["pooled"] == first["average_precision"] > second["average_precision"]
    assert "AP pooled" in capsys.readouterr().out


def test_the_winner_is_said_to_be_selected_and_where_to_measure_it(words, capsys):
    run(words, *RATES)
    printed = capsys.readouterr().out
    assert "selected on folds 0, 1: the first of 2 trials was chosen by these rows" in printed
    assert "train it on --folds 2,3, which validated no trial" in printed


def test_pruning_sends_the_better_half_to_the_next_fold(words, tmp_path, capsys):
    flags = ("--grid", "optimizer.learning_rate=1e-2,1e-3,1e-4,3e-3,1e-6", "--folds", "all")
    code, started = run(words, *flags, "--prune")
    assert code == 0
    numbers = [(int(folder[:3]), folds) for folder, folds, _ in started]
    kept = [number for number, folds in numbers if folds == "0,1"]
    assert numbers[:5] == [(number, "0") for number in (1, 2, 3, 4, 5)]
    assert len(kept) == 3
    assert [folds for _, folds in numbers[5:]] == ["0,1"] * 3 + ["0,1,2"] * 2 + ["0,1,2,3"] * 2
    lines = results(tmp_path)["trials"]
    assert [len(line["by_fold"]) for line in lines] == [4, 4, 2, 1, 1]
    assert [line["state"] for line in lines] == ["done"] * 2 + ["pruned"] * 3
    aucs = {line["trial"]: line["by_fold"]["0"] for line in lines}
    dropped = {*aucs} - {*kept}
    assert min(aucs[number] for number in kept) >= max(aucs[number] for number in dropped)
    assert lines[3]["difference"] == pytest.approx(
        lines[3]["by_fold"]["0"] - lines[0]["by_fold"]["0"]
    )
    assert "after 1 of 4 folds go on:" in capsys.readouterr().out
    assert run(words, *flags, "--prune") == (0, [])


def test_the_table_of_all_trials_opens_in_a_spreadsheet(words, tmp_path):
    run(words, *RATES, trials=Trials(codes={1e-4: 1}))
    with (tmp_path / "search" / "search.csv").open() as file:
        done, failed = csv.DictReader(file)
    assert (done["state"], done["optimizer.learning_rate"]) == ("done", "1e-3")
    assert 0.5 < float(done["fold0"]) <= 1
    assert (failed["state"], failed["pooled"]) == ("failed", "")


def test_the_page_shows_every_trial_and_escapes_what_processes_print(words, tmp_path):
    run(words, "--grid", "optimizer.learning_rate=1e-2,1e-3,1e-4", trials=Trials(codes={1e-4: 1}))
    page = (tmp_path / "search" / "search.html").read_text()
    assert page.count('class="line series') == 4  # loss and validation of the two that are done
    assert page.count("<circle") == 2  # learning rate against the figure
    assert "AUC by optimizer.learning_rate" in page
    assert "selected on folds 0, 1" in page
    assert "&lt;script&gt;no&lt;/script&gt;" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http-equiv", "")


def test_what_a_trial_does_not_set_is_shown_as_its_recipe_has_it(words, capsys):
    run(words, "--set", "loss.kind=focal", "--grid", "loss.gamma=1,3")
    run(words, "--set", "loss.kind=focal", "--grid", "optimizer.clip_norm=1.0")
    table = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert {("001", "1", "none"), ("002", "3", "none"), ("003", "2.0", "1.0")} <= {
        tuple(line) for line in table
    }


def test_tasks_do_not_share_the_folders_that_vertex_names(words, monkeypatch, tmp_path):
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", str(tmp_path / "shared"))
    code, started = run(words, *RATES)
    assert (code, len(started)) == (0, 2)
    assert results(tmp_path)["trials"][0]["state"] == "done"


def test_a_misspelt_flag_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--records", "a", "--run", "b", "--gird", "a=1"])
    assert leaving.value.code == 2
    assert "unknown flag --gird; did you mean '--grid'?" in capsys.readouterr().err


def test_the_search_itself_starts_without_tensorflow():
    code = "import sys, trainer.search.__main__; sys.exit('tensorflow' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
