"""A path that is not there is the command line's fault, whichever command it is given to."""

import importlib

import pytest

from records_factory import write_toy_records

RECORDS = "--records records"
TABLE = "--csv table.csv --id image_name --label target --folds 2 --output out"
SCORE = "--output scores.csv --images images"
COMMANDS = {
    "trainer.task": [
        "--records none --run run",
        f"{RECORDS} --run run --config none.toml",
        f"{RECORDS} --run run --set extra.records='none'",
        f"{RECORDS} --run run --set train.batch_size=8 --set init='none'",
    ],
    "trainer.search.__main__": [
        "--records none --run search --grid train.seed=1,2",
        f"{RECORDS} --run search --grid train.seed=1,2 --config none.toml",
    ],
    "trainer.baselines.__main__": ["--records none --run run"],
    "trainer.predict": [
        "--records none --run run",
        f"{RECORDS} --run none",
        f"{RECORDS} --ensemble none.json --output out.parquet",
    ],
    "trainer.export": ["--run none"],
    "trainer.ensemble.__main__": [
        "none --output out.parquet",
        "none.parquet --output out.parquet",
    ],
    "trainer.compare": ["none other"],
    "trainer.report.__main__": ["none --output report.html"],
    "trainer.preflight.__main__": [
        "--tpu_type v3-8 --records none",
        f"--tpu_type v3-8 {RECORDS} --config none.toml",
    ],
    "beam_jobs.make_records": [
        f"{TABLE} --images none",
        f"{TABLE} --images images --drop none.csv:image_name",
        f"{TABLE} --images images --join_groups none.csv",
        f"{TABLE} --spec none.toml",
        TABLE.replace("table.csv", "none.csv") + " --images images",
        f"{TABLE} --values_npy none.npy",
        "--from_folders none --output out",
    ],
    "beam_jobs.verify_records": ["none", "records --spec none.toml"],
    "beam_jobs.find_duplicates": ["none --output out.csv", "records none --output out.csv"],
    "beam_jobs.score_images": [
        f"{SCORE} --models none",
        f"{SCORE} --ensemble none.json",
        "--output scores.csv --images none --models none",
    ],
    "pipeline.stream.gallery": [
        "--records none --output gallery.html",
        f"{RECORDS} --output gallery.html --config none.toml",
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records, an empty folder and a table: all that a command may name beside what is missing."""
    folder = tmp_path_factory.mktemp("home")
    write_toy_records(folder / "records")
    (folder / "images").mkdir()
    (folder / "table.csv").write_text("image_name,target\na,0\nb,1\nc,0\nd,1\n")
    return folder


@pytest.mark.parametrize(
    ("command", "words"),
    [(command, words) for command, lines in COMMANDS.items() for words in lines],
)
def test_a_path_that_is_not_there_leaves_with_2_and_a_line_that_names_it(
    folder, monkeypatch, capfd, command, words
):
    monkeypatch.chdir(folder)
    assert importlib.import_module(command).main(words.split()) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "none" in line
