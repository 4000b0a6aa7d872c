"""What every entry point's command line promises."""

import subprocess
import sys
import time

import pytest

from pipeline.command_line import Parser, names, run, whole_numbers
from pipeline.errors import DataError, SettingsError

ENTRY_POINTS = (
    "pipeline.phantom", "beam_jobs.make_records", "beam_jobs.verify_records",
    "trainer.task", "trainer.ensemble", "trainer.vertex",
)  # fmt: skip


@pytest.fixture
def parser():
    parser = Parser("test", "A test.")
    parser.add_argument("--sizes", type=whole_numbers)
    parser.add_argument("--columns", type=names)
    return parser


@pytest.mark.parametrize("argv", [["--size", "256"], ["--siezs=256"]])
def test_an_unknown_flag_is_refused_with_the_nearest(parser, argv, capsys):
    with pytest.raises(SystemExit) as left:
        parser.parse(argv)
    assert left.value.code == 2
    assert "did you mean '--sizes'?" in capsys.readouterr().err


def test_a_misspelt_required_flag_is_named_and_not_asked_for(parser, capsys):
    parser.add_argument("--output", required=True)
    with pytest.raises(SystemExit):
        parser.parse(["--ouput", "x"])
    assert "unknown flag --ouput; did you mean '--output'?" in capsys.readouterr().err


def test_lists_are_parted_by_commas(parser):
    flags = parser.parse(["--sizes", "256,384", "--columns", "sex, site"])
    assert (flags.sizes, flags.columns) == ((256, 384), ("sex", "site"))


@pytest.mark.parametrize("argv", [["--sizes", "big"], ["--columns", ","], ["--sizes", "-1"]])
def test_a_value_that_does_not_fit_leaves_with_2(parser, argv):
    with pytest.raises(SystemExit) as left:
        parser.parse(argv)
    assert left.value.code == 2


@pytest.mark.parametrize(("error", "code"), [(SettingsError, 2), (DataError, 1)])
def test_an_error_of_the_users_is_one_line_and_a_code(error, code, capsys):
    def job():
        raise error("train.csv: no column 'id'")

    assert run("job", job) == code
    assert capsys.readouterr().err == "job: error: train.csv: no column 'id'\n"


def test_an_error_of_ours_keeps_its_stack():
    with pytest.raises(ZeroDivisionError):
        run("job", lambda: 1 // 0)


def test_a_reader_that_has_seen_enough_is_no_error():
    code = (
        "import sys\n"
        "from pipeline.command_line import run\n"
        "def job():\n"
        "    for number in range(100_000): print(number)\n"
        "    return 0\n"
        "sys.exit(run('job', job))"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert job.stdout.readline() == "0\n"
    job.stdout.close()
    assert (job.stderr.read(), job.wait()) == ("", 141)
    job.stderr.close()


def test_a_broken_pipe_that_is_not_stdout_keeps_its_stack():
    def job():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run("job", job)


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_help_comes_at_once_and_without_tensorflow_or_beam(module):
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as left: assert left.code == 0, left.code\n"
        "slow = {'tensorflow', 'apache_beam'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout
    assert time.monotonic() - start < 5  # under 1 s on an idle machine
