"""Flags and `--dataflow_option` as Beam's own parser takes them: all spellings, lists, switches."""

import re

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.beam_options import as_beam_flags, beam_parser
from beam_jobs.engine import choose_engine
from beam_jobs.run_flags import DATAFLOW_FLAGS, add_run_flags
from beam_jobs.template import job_flags, parser_of
from pipeline.command_line import Parser
from pipeline.errors import SettingsError

ON_DATAFLOW = (
    "--runner=dataflow", "--project=some-project", "--region=us-central1",
    "--temp_location=gs://some-bucket/tmp", "--sdk_container_image=image",
)  # fmt: skip


def options_of(*words):
    """What Beam reads of a job's flags."""
    parser = Parser("test", "A test.")
    add_run_flags(parser)
    engine = choose_engine(parser.parse([*ON_DATAFLOW, *words]), "test", {})
    return PipelineOptions(engine.options).get_all_options()


def launched(*words):
    """What Beam reads of a Flex Template's parameters."""
    job, flags = job_flags([*ON_DATAFLOW, "--job=verify_records", "--records=gs://b/r", *words])
    return PipelineOptions(choose_engine(parser_of(job).parse(flags), job, {}).options)


@pytest.mark.parametrize("flag", DATAFLOW_FLAGS)
def test_each_of_dataflows_flags_is_taken_in_every_spelling_of_beams(flag):
    parser = Parser("test", "A test.")
    add_run_flags(parser)
    spellings = beam_parser()._option_string_actions[f"--{flag}"].option_strings
    for spelling in {*spellings} - {"--label"}:  # with make_records, of the dataset's
        words = [spelling] if DATAFLOW_FLAGS[flag].is_switch else [spelling, "some-value"]
        assert getattr(parser.parse(words), flag), spelling


@pytest.mark.parametrize("read", [options_of, lambda *words: launched(*words).get_all_options()])
def test_a_list_keeps_all_that_was_said(read):
    options = read("--labels=team=skin", "--labels=cost=7")
    assert options["labels"] == ["team=skin", "cost=7"]


def test_options_that_are_repeated_come_to_beam_as_a_list():
    words = ("experiments=use_runner_v2", "experiment=a,b", "worker_disk_type=pd-ssd")
    options = options_of(*(f"--dataflow_option={word}" for word in words))
    assert options["experiments"] == ["use_runner_v2", "a", "b"]
    assert options["disk_type"] == "pd-ssd"
    options = launched("--experiments=use_runner_v2", "--experiments=a,b").get_all_options()
    assert options["experiments"] == ["use_runner_v2", "a", "b"]


@pytest.mark.parametrize("spelling", ["machine_type", "worker_machine_type"])
def test_a_machine_type_may_be_said_as_beam_says_it(spelling):
    assert options_of(f"--{spelling}=n2-standard-4")["machine_type"] == "n2-standard-4"
    option = f"--dataflow_option={spelling}=n2-standard-4"
    assert options_of(option)["machine_type"] == "n2-standard-4"
    assert launched(f"--{spelling}=n2").get_all_options()["machine_type"] == "n2"


@pytest.mark.parametrize(
    ("word", "option", "value"),
    [
        ("enable_hot_key_logging", "enable_hot_key_logging", True),
        ("enable_hot_key_logging=true", "enable_hot_key_logging", True),
        ("enable_hot_key_logging=False", "enable_hot_key_logging", False),
        ("use_public_ips=false", "use_public_ips", False),
        ("enable_streaming_engine=true", "enable_streaming_engine", True),
        ("no_pipeline_type_check=false", "pipeline_type_check", True),
        ("no_use_public_ips=true", "use_public_ips", False),
        ("no_use_public_ips", "use_public_ips", False),
    ],
)
def test_a_switch_is_what_its_text_says(word, option, value):
    assert launched(f"--{word}").get_all_options()[option] is value
    assert options_of(f"--dataflow_option={word}")[option] is value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataflow_option=machine_tipe=x"], "option of Beam's, got machine_tipe; did you mean"),
        (["--num_workers=many"], "--num_workers must be what Beam takes, got 'many' .*invalid int"),
        (["--dataflow_option=flexrs_goal=FAST"], "--flexrs_goal must be .*got 'FAST' .*COST_OPTIM"),
        (["--dataflow_option=experiments"], "--experiments must be .*got nothing .*one argument"),
        (["--dataflow_option=help"], "must name an option of Beam's, got help; "),
        (["--dataflow_option=h"], "must name an option of Beam's, got h; known are "),
        (["--dataflow_option=enable_streaming_engine=false"],
         "--enable_streaming_engine must be true, got 'false'; Beam has no flag to turn it off"),
        (["--dataflow_option=update=maybe"], "--update must be true or false, got 'maybe'"),
    ],
)  # fmt: skip
def test_what_beam_would_not_take_is_one_clear_error(words, message, capsys):
    with pytest.raises(SettingsError) as refused:
        options_of(*words)
    assert re.search(message, str(refused.value)), refused.value
    assert not capsys.readouterr().err  # no usage text of Beam's


def test_a_switch_of_a_jobs_own_is_true_or_false():
    with pytest.raises(SettingsError, match="adopt must be true or false, got 'yes'"):
        launched("--adopt=yes")


def test_later_flags_go_over_earlier_ones():
    words = as_beam_flags({"num_workers": "2"}, ["num_workers=3"])
    assert PipelineOptions(words).get_all_options()["num_workers"] == 3
