"""`python -m trainer.report`: the page, `metrics.json`, the model card, and what it refuses."""

import dataclasses
import functools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from google.auth.exceptions import DefaultCredentialsError
from scipy.stats import norm
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    fbeta_score,
    recall_score,
    roc_auc_score,
)

from pipeline.predictions import write_predictions
from pipeline.records.manifest import read_rows
from pipeline.storage import gcs_client
from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from records_factory import write_toy_records
from trainer.intervals import auc, difference_intervals, draw_counts, intervals
from trainer.report.__main__ import main
from trainer.report.figures import Column, drawn_figures

LABELS = pytest.mark.parametrize(
    "label", [BINARY, MULTICLASS, MULTILABEL], ids=lambda label: label.kind
)


class Reader(HTMLParser):
    """Every element and text of a page; fails where one is closed that is not open."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.attributes, self.open = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def write(path, predictions, **columns):
    frame = predictions.frame.assign(**columns)
    write_predictions(str(path), dataclasses.replace(predictions, frame=frame))
    return str(path)


def report(tmp_path, *runs, flags=()):
    """What the page, read back, and `metrics.json` hold."""
    output = tmp_path / "out" / "report.html"
    assert main([*runs, "--output", str(output), "--draws", "50", *flags]) == 0
    page = output.read_text()
    return Reader(page), json.loads((tmp_path / "out" / "metrics.json").read_text())


def refusal(tmp_path, capsys, *runs, flags=()):
    """The one line that the report ends with."""
    code = main([*runs, "--output", str(tmp_path / "report.html"), "--draws", "5", *flags])
    assert code in (1, 2)
    assert not (tmp_path / "report.html").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


@LABELS
def test_every_kind_of_label_has_a_page_that_asks_for_nothing(tmp_path, label):
    page, _ = report(tmp_path, write(tmp_path / "a.parquet", toy_predictions(label, rows=120)))
    assert "script" not in page.tags
    assert {"h2", "svg", "table"} <= set(page.tags)
    for name, value in page.attributes:
        assert name not in ("href", "onload", "srcset")
        assert name != "src" or value.startswith("data:")
    assert not any("nan" in re.split(r"\W", text) for text in page.texts)


def test_ids_groups_and_classes_stay_text(tmp_path):
    bad = '<script>alert("1")</script>'
    label = dataclasses.replace(MULTICLASS, classes=("nv", bad, "bcc"), positive=(bad,))
    whole = toy_predictions(label, rows=120)
    ids = [f"{bad}{row}" for row in range(120)]
    card = tmp_path / "card.md"
    file = write(tmp_path / "a.parquet", whole, id=ids, group=ids, part=bad)
    page, _ = report(tmp_path, file, flags=["--model_card", str(card), "--point", f"{bad}=70,60"])
    assert "script" not in page.tags
    assert any(f"P({bad})" in text for text in page.texts)
    assert "<script" not in card.read_text()


def test_the_figures_are_those_of_scikit_learn_at_the_thresholds_of_the_other_folds(tmp_path):
    whole = toy_predictions(BINARY, rows=150)
    _, found = report(tmp_path, write(tmp_path / "a.parquet", whole))
    frame = whole.frame
    target, score = frame["target"].to_numpy(), frame["prob_malignant"].to_numpy(np.float64)
    figures = {name: of["figure"] for name, of in found["figures"].items()}
    exactly = functools.partial(pytest.approx, rel=0, abs=1e-9)
    assert figures["AUC"] == exactly(roc_auc_score(target, score))
    assert figures["AP"] == exactly(average_precision_score(target, score))
    assert figures["Brier"] == exactly(brier_score_loss(target, score))
    scores = {
        "sensitivity": recall_score,
        "specificity": lambda target, taken: recall_score(target, taken, pos_label=0),
        "balanced accuracy": balanced_accuracy_score,
        "F1": lambda target, taken: fbeta_score(target, taken, beta=1),
        "F2": lambda target, taken: fbeta_score(target, taken, beta=2),
    }
    for criterion, by_fold in found["thresholds"]["malignant"].items():
        of_row = np.array([by_fold[str(fold)] or -np.inf for fold in frame["fold"]])
        for name, score_of in scores.items():
            expected = score_of(target, score >= of_row)
            assert figures[f"{name}, {criterion}"] == exactly(expected), name


def test_delongs_interval_of_a_difference_is_that_of_its_variance_over_all_pairs(tmp_path):
    first, second = (toy_predictions(BINARY, rows=90, seed=seed) for seed in (0, 1))
    files = [write(tmp_path / "a.parquet", first), write(tmp_path / "b.parquet", second)]
    _, found = report(tmp_path, *files)
    is_positive = first.targets == 1
    wins = np.stack([
        (of.probs[is_positive] > of.probs[~is_positive].T) * 1.0 for of in (first, second)
    ])  # fmt: skip
    difference = wins[0] - wins[1]
    variance = sum(
        difference.mean(axis=axis).var(ddof=1) / difference.shape[1 - axis] for axis in (0, 1)
    )
    reach = norm.ppf(0.975) * np.sqrt(variance)
    expected = [difference.mean() - reach, difference.mean() + reach]
    interval = found["compared"][files[1]]["auc_difference_delong"]
    assert interval == pytest.approx(expected, rel=0, abs=1e-9)
    own = found["figures"]["AUC"]["delong"]
    alone = sum(wins[0].mean(axis=axis).var(ddof=1) / wins[0].shape[1 - axis] for axis in (0, 1))
    assert own[1] - own[0] == pytest.approx(2 * norm.ppf(0.975) * np.sqrt(alone), abs=1e-9)


@LABELS
def test_intervals_are_those_of_the_draws_that_others_print(tmp_path, label):
    first, second = (toy_predictions(label, rows=90, seed=seed) for seed in (0, 1))
    files = [write(tmp_path / "a.parquet", first), write(tmp_path / "b.parquet", second)]
    _, found = report(tmp_path, *files)
    own = intervals(first, {"AUC": auc}, draws=50)["AUC"]
    assert found["figures"]["AUC"]["interval"] == pytest.approx([own.low, own.high])
    difference = difference_intervals(first, second, {"AUC": auc}, draws=50)["AUC"]
    compared = found["compared"][files[1]]["differences"]["AUC"]
    assert compared["figure"] == pytest.approx(difference.figure)
    assert compared["interval"] == pytest.approx([difference.low, difference.high])


def test_a_drawn_figure_is_that_of_its_groups_rows_repeated():
    rng = np.random.default_rng(0)
    target, score = (rng.random(60) < 0.4).astype(float), rng.random(60)
    scaled, taken, group = score**2, score > 0.6, np.arange(60) // 3
    column = Column(
        name="x", target=target, score=score, scaled=scaled, decisions={"F1": taken},
        thresholds={},
    )  # fmt: skip
    groups = [f"{number:02}" for number in group]
    drawn = drawn_figures([column], groups, draws=5, seed=1)
    for draw, counts in enumerate(draw_counts(20, 5, seed=1), start=1):
        rows = np.repeat(np.arange(60), counts.astype(int)[group])
        assert drawn["F2, F1"][draw] == pytest.approx(
            fbeta_score(target[rows], taken[rows], beta=2)
        )
        assert drawn["AUC"][draw] == pytest.approx(roc_auc_score(target[rows], score[rows]))
        brier = np.mean((scaled[rows] - target[rows]) ** 2)
        assert drawn["Brier scaled"][draw] == pytest.approx(brier)
        bins = np.floor(score[rows] * 15)
        gaps = [abs((score[rows] - target[rows])[bins == of].sum()) for of in range(15)]
        assert drawn["ECE"][draw] == pytest.approx(sum(gaps) / len(rows))


def test_rows_of_one_part_say_how_their_thresholds_were_chosen(tmp_path):
    whole = toy_predictions(BINARY, rows=120)
    page, found = report(tmp_path, write(tmp_path / "a.parquet", whole, fold=-1, part="holdout"))
    assert found["chosen_on"] == "groups cut by hash"
    assert any(text.startswith("The rows are of one part.") for text in page.texts)
    assert found["figures"]["F1, F1"]["figure"] is not None


def test_what_was_selected_on_its_rows_says_so_everywhere(tmp_path):
    whole = dataclasses.replace(toy_predictions(BINARY, rows=60), run={"selected_on": ["fold0"]})
    file, card = write(tmp_path / "a.parquet", whole), tmp_path / "card.md"
    page, found = report(tmp_path, file, flags=["--model_card", str(card)])
    assert any(text.startswith("Selected on fold0:") for text in page.texts)
    assert found["selected_on"] == ["fold0"]
    assert "Selected on fold0:" in card.read_text()


def test_the_point_of_somebody_is_beside_the_curve_and_its_specificity_is_chosen_for(tmp_path):
    file = write(tmp_path / "a.parquet", toy_predictions(BINARY, rows=60))
    page, found = report(tmp_path, file, flags=["--point", "readers=74.1,60"])
    assert "readers 74.1 / 60 %" in page.texts
    assert "sensitivity, specificity of readers" in found["figures"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Records of 200 rows, and predictions of them."""
    folder = tmp_path_factory.mktemp("toy")
    write_toy_records(folder / "records", rows=200, size_px=16)
    rows = read_rows(str(folder / "records"))
    keys = {name: rows[name].to_numpy() for name in ("id", "group", "part", "fold", "target")}
    return str(folder / "records"), toy_predictions(BINARY, rows=200), keys


def test_records_add_pictures_and_subgroups(tmp_path, toy):
    records, whole, keys = toy
    file = write(tmp_path / "a.parquet", whole, **keys)
    flags = ["--records", records, "--subgroups", "sex,age"]
    page, found = report(tmp_path, file, flags=flags)
    assert page.tags.count("img") == 25 + 2 * 12
    assert list(found["by_subgroup"]) == ["sex", "age_approx"]
    rows = read_rows(records)
    is_male = (rows["sex"] == "male").to_numpy()
    male = found["by_subgroup"]["sex"]["male"]
    assert (male["rows"], male["positives"]) == (
        is_male.sum(),
        (keys["target"][is_male] == 1).sum(),
    )
    expected = roc_auc_score(keys["target"][is_male], whole.probs[is_male, 0])
    assert male["figures"]["AUC"]["figure"] == pytest.approx(expected)
    ages = found["by_subgroup"]["age_approx"]
    assert list(ages) == ["20–39", "40–59", "60–79", "80 and more", "(missing)"]
    assert ages["20–39"]["rows"] == rows["age_approx"].between(20, 39).sum()


def test_a_subgroup_of_few_groups_has_counts_alone(tmp_path, toy):
    records, whole, keys = toy
    few = whole.frame.assign(**keys).iloc[:60]
    file = write(tmp_path / "a.parquet", dataclasses.replace(whole, frame=few))
    page, found = report(tmp_path, file, flags=["--records", records, "--subgroups", "age"])
    assert found["by_subgroup"]["age_approx"]["80 and more"]["figures"] is None
    assert "too few to judge" in page.texts


def test_the_card_of_a_file_alone_makes_nothing_up(tmp_path):
    card = tmp_path / "card.md"
    file = write(tmp_path / "a.parquet", toy_predictions(BINARY, rows=60))
    report(tmp_path, file, flags=["--model_card", str(card)])
    text = card.read_text()
    for section in ("Intended use", "Training", "Subgroups", "Ethical considerations"):
        assert f"## {section}\n\nnot stated" in text
    assert "- architecture: not stated" in text


def test_the_card_of_a_run_tells_its_recipe_and_records(tmp_path, toy):
    records, whole, keys = toy
    folder, card = tmp_path / "run", tmp_path / "card.md"
    folder.mkdir()
    recipe = 'augment = [{op = "a", by = 2}]\n[model]\nbackbone = "b_0"\n[train]\nepochs = 3\n'
    (folder / "config.toml").write_text(recipe)
    write(folder / "predictions.parquet", whole, **keys)
    report(tmp_path, str(folder), flags=["--records", records, "--model_card", str(card)])
    text = card.read_text()
    assert "- backbone: b\\_0" in text
    assert "- train.epochs: 3" in text
    assert "- augment: op = a, by = 2" in text
    assert "| fold0 | 50 | 25 |" in text


def test_the_card_of_an_ensemble_tells_what_its_members_agree_on_and_where_they_differ(tmp_path):
    whole = toy_predictions(BINARY, rows=60)
    for name, epochs in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        text = f'[model]\nbackbone = "b0"\n[train]\nepochs = {epochs}\nseed = 1\n'
        (tmp_path / name / "config.toml").write_text(text)
    names = [f"{tmp_path}/a", f"{tmp_path}/b/predictions.parquet", f"{tmp_path}/gone.parquet"]
    joined = dataclasses.replace(whole, run={**whole.run, "members": names})
    write_predictions(str(tmp_path / "e.parquet"), joined)
    card = tmp_path / "card.md"
    report(tmp_path, str(tmp_path / "e.parquet"), flags=["--model_card", str(card)])
    text = card.read_text().replace("\\_", "_")
    assert "- backbone: b0\n" in text
    assert "- train.seed: 1\n" in text
    assert f"- train.epochs: 3 ({names[0]}); 4 ({names[1]})\n" in text
    assert f"- recipe of {names[2]}: not stated\n" in text


def test_the_card_of_an_ensemble_needs_none_of_its_members(tmp_path, monkeypatch, caplog):
    def no_credentials():
        raise DefaultCredentialsError("none were found")

    monkeypatch.setattr(gcs_client, "_client", no_credentials)
    for name, recipe in (("a", "seed = 1\n"), ("bad", "seed = \n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text(recipe)
    (tmp_path / "file").touch()
    why = {
        "gs://some-bucket/runs/b0/model": "credentials must be there, got none that work",
        "gs://B/runs/b0": "path must be gs://BUCKET/NAME",
        f"{tmp_path}/bad": "not valid TOML",
        f"{tmp_path}/gone.parquet": "no such file",
        f"{tmp_path}/file": "Not a directory",
    }
    whole = toy_predictions(BINARY, rows=60)
    about = {**whole.run, "members": [f"{tmp_path}/a", *why]}
    write_predictions(str(tmp_path / "e.parquet"), dataclasses.replace(whole, run=about))
    card = tmp_path / "card.md"
    report(tmp_path, str(tmp_path / "e.parquet"), flags=["--model_card", str(card)])
    text = card.read_text().replace("\\_", "_")
    assert "- seed: 1\n" in text
    warnings = caplog.messages
    assert len(warnings) == len(why)
    for (name, reason), line in zip(why.items(), warnings, strict=True):
        assert f"- recipe of {name}: not stated\n" in text + "\n"
        assert line.startswith(f"{name}: "), line
        assert reason in line
        assert "\n" not in line


def test_a_tile_names_the_threshold_it_was_judged_by_and_the_fold_that_it_was_not_chosen_on(
    tmp_path,
):
    whole = toy_predictions(BINARY, rows=60)
    page, found = report(tmp_path, write(tmp_path / "a.parquet", whole))
    thresholds = found["thresholds"]["malignant"]["balanced accuracy"]
    told = {text for text in page.texts if text.startswith("threshold ")}
    allowed = {f"threshold {at:.3f}, fold {fold}" for fold, at in thresholds.items() if at}
    assert told
    assert told <= allowed


def test_two_pages_of_a_folder_keep_their_own_numbers(tmp_path):
    files = [
        write(tmp_path / f"{name}.parquet", toy_predictions(BINARY, rows=60, seed=seed))
        for seed, name in enumerate("ab")
    ]
    report(tmp_path, files[0])
    second = str(tmp_path / "out" / "second.html")
    assert main([files[1], "--output", second, "--draws", "5"]) == 0
    names = [
        json.loads((tmp_path / "out" / name).read_text())["name"]
        for name in ("metrics.json", "second-metrics.json")
    ]
    assert names == files


def test_learning_curves_are_drawn_where_a_run_is_given(tmp_path):
    fold = tmp_path / "run" / "fold0"
    fold.mkdir(parents=True)
    lines = [{"epoch": epoch, "loss": 1 / epoch, "fold": 0} for epoch in (1, 2, 3)]
    (fold / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write(tmp_path / "run" / "predictions.parquet", toy_predictions(BINARY, rows=60))
    page, _ = report(tmp_path, str(tmp_path / "run"))
    assert f"training loss of {tmp_path / 'run'}" in page.texts
    assert not any(text.startswith("validation AUC") for text in page.texts)


def repeated(frame):
    return frame.assign(id="ISIC_1")


def without_numbers(frame):
    return frame.assign(prob_malignant=np.nan)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (repeated, "id must be unique, got 59 repeated"),
        (without_numbers, "logits and probs must be finite, got 60 rows"),
        (lambda frame: frame.iloc[:0], "predictions must have rows, got none"),
        (lambda frame: frame.assign(target=-1), "rows must have targets, got none in 60 rows"),
        (lambda frame: frame.assign(target=0), "two classes or more, got 60 rows of one"),
        (lambda frame: frame.assign(target=frame["fold"] // 2), "others must hold both classes"),
    ],
    ids=["repeated ids", "NaN", "empty", "unlabelled", "one class", "a class in one fold"],
)
def test_a_table_at_fault_is_one_line(tmp_path, capsys, monkeypatch, damage, said):
    whole = toy_predictions(BINARY, rows=60)
    monkeypatch.setattr("pipeline.predictions.check_predictions", lambda *_: None)
    broken = dataclasses.replace(whole, frame=damage(whole.frame))
    write_predictions(str(tmp_path / "a.parquet"), broken)
    monkeypatch.undo()
    assert said in refusal(tmp_path, capsys, str(tmp_path / "a.parquet"))


def test_files_that_are_none_are_one_line_each(tmp_path, capsys):
    (tmp_path / "a.parquet").write_bytes(b"")
    assert "not a Parquet file" in refusal(tmp_path, capsys, str(tmp_path / "a.parquet"))
    assert "no such file" in refusal(tmp_path, capsys, str(tmp_path / "b.parquet"))
    pd.DataFrame({"id": ["a"]}).to_parquet(tmp_path / "c.parquet")
    assert "schema_version" in refusal(tmp_path, capsys, str(tmp_path / "c.parquet"))


def test_tables_that_do_not_belong_together_are_named(tmp_path, capsys):
    label = dataclasses.replace(MULTICLASS, classes=("mel", "nv", "bcc"))
    files = [
        write(tmp_path / "a.parquet", toy_predictions(MULTICLASS, rows=60)),
        write(tmp_path / "b.parquet", toy_predictions(label, rows=60)),
    ]
    line = refusal(tmp_path, capsys, *files)
    assert f"{files[1]} beside {files[0]}: label must be equal" in line
    assert "got" in refusal(tmp_path, capsys, files[0], files[0])


def test_a_run_that_lacks_a_fold_of_the_other_is_told_which(tmp_path, capsys):
    whole = toy_predictions(BINARY, rows=60)
    fewer = dataclasses.replace(whole, frame=whole.frame[whole.frame["fold"] != 1])
    files = [write(tmp_path / "a.parquet", whole), write(tmp_path / "b.parquet", fewer)]
    line = refusal(tmp_path, capsys, *files)
    assert f"got 20 rows only in {files[0]}, all of its fold 1 (first row 2)" in line
    assert "with the same --folds" in line


def test_flags_at_fault_are_one_line_each(tmp_path, capsys, toy):
    records, whole, keys = toy
    file = write(tmp_path / "a.parquet", whole, **keys)
    flags = ["--records", records, "--subgroups", "sexe"]
    assert "'sexe'" in refusal(tmp_path, capsys, file, flags=flags)
    assert "must be given with it" in refusal(tmp_path, capsys, file, flags=["--subgroups", "sex"])
    foreign = write(tmp_path / "c.parquet", whole, id=[f"x{row}" for row in range(200)])
    said = refusal(tmp_path, capsys, foreign, flags=["--records", records])
    assert "must hold every id" in said
    assert "200 of 200" in said
    several = write(tmp_path / "d.parquet", toy_predictions(MULTILABEL, rows=60))
    said = refusal(tmp_path, capsys, several, flags=["--point", "readers=74.1,60"])
    assert "rows must have one score, got 2 classes" in said
    with pytest.raises(SystemExit):
        main([file, "--output", str(tmp_path / "report.html"), "--point", "readers=740,60"])
    assert "must be NAME=SENSITIVITY,SPECIFICITY" in capsys.readouterr().err
