"""`python -m trainer.vertex --study`: a search that the API takes and every trial of which runs."""

import functools
import re

import pytest
from google.cloud.aiplatform_v1.types import HyperparameterTuningJob, StudySpec

import trainer.vertex.__main__ as vertex
from conftest import ROOT
from trainer.config import load_config
from trainer.task import build_parser as task_parser
from trainer.trial import as_overrides
from vertex_jobs import FLAGS, dry_run

STUDY = ("--study", f"{ROOT}/configs/study.toml")


@pytest.fixture
def printed(capsys):
    """The dry run of some flags as the API's own type, which refuses what it doesn't know."""
    return functools.partial(dry_run, capsys)


def test_a_study_is_a_search_over_the_recipe(printed):
    job = printed(HyperparameterTuningJob, *STUDY)
    assert (job.max_trial_count, job.parallel_trial_count, job.max_failed_trial_count) == (20, 2, 3)
    [metric] = job.study_spec.metrics
    assert metric.metric_id == "auc"
    assert metric.goal == StudySpec.MetricSpec.GoalType.MAXIMIZE
    rate, gamma, fusion = job.study_spec.parameters
    assert rate.parameter_id == "optimizer.learning_rate"
    assert (rate.double_value_spec.min_value, rate.double_value_spec.max_value) == (1e-4, 3e-3)
    assert rate.scale_type == StudySpec.ParameterSpec.ScaleType.UNIT_LOG_SCALE
    assert list(gamma.discrete_value_spec.values) == [1, 2, 3]
    assert list(fusion.categorical_value_spec.values) == ["none", "concat"]
    [pool] = job.trial_job_spec.worker_pool_specs
    assert pool.container_spec.args[0] == "trainer.trial"


def test_a_trials_flags_are_settings_of_the_recipe():
    words = as_overrides(
        ["--records", "gs://b/r", "--config=c.toml", "--optimizer.learning_rate=0.0003",
         "--train.batch_size=64.0", "--model.fusion=none"]
    )  # fmt: skip
    flags = task_parser().parse(words)
    assert flags.config == "c.toml"
    config = load_config(None, flags.overrides)
    assert config.optimizer.learning_rate == 0.0003
    assert config.train.batch_size == 64
    assert config.model.fusion is None


RATE = '[[parameter]]\nkey = "optimizer.learning_rate"\n'
GAMMA = '[[parameter]]\nkey = "loss.gamma"\n'
BATCH = '[[parameter]]\nkey = "train.batch_size"\n'


@pytest.fixture
def study_of(tmp_path):
    """The flags that name a study of this text."""

    def write(text):
        path = tmp_path / "study.toml"
        path.write_text(text)
        return ("--study", str(path))

    return write


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ('[[parameter]]\nkey = "optimizer.lerning_rate"\nvalues = [1]', "lerning_rate = 1.*did"),
        ('[[parameter]]\nkey = "train.epochs"\nlow = 0\nhigh = 3\nis_whole = true',
         "train.epochs = 0: .*epochs must be 1 or more, got 0; .*values in place of low and high"),
        (GAMMA + "low = 1.0", "low and high, or values"),
        (GAMMA + "low = 2.0\nhigh = 1.0", "low must be less than high"),
        (GAMMA + "low = 0.0\nhigh = 1.0\nscale = 'log'", "above 0 .* got 0.0"),
        (GAMMA + "values = [1, 2]\nscale = 'log'", "scale must be left out with values, got 'log'"),
        (GAMMA + "low = 0.0\nhigh = inf", "low and high must be finite, got 0.0, inf"),
        (GAMMA + "low = nan\nhigh = 1.0", "low and high must be finite, got nan, 1.0"),
        (GAMMA + "values = [1, 2, 1.0]", "values must differ, got 1.0 again"),
        (GAMMA + "values = [2, 2.00000000001]", "1e-10 or more apart"),
        (GAMMA + f"values = {list(range(1001))}", "values must be 1,000 at most, got 1,001"),
        ('[[parameter]]\nkey = "model.fusion"\nvalues = ["none", "none"]', "got none again"),
        (GAMMA + "low = 0.5\nhigh = 3\nis_whole = true", "low and high must be whole.*got 0.5, 3"),
        ('[[parameter]]\nkey = "loss.gamma "\nvalues = [1]', "key must be .*got 'loss.gamma '"),
        ('[[parameter]]\nkey = "init"\nvalues = ["none"]', "key must be TABLE.NAME.*got 'init'"),
        (BATCH + "values = [32, 36]", "size = 36.0: train.batch_size must be a multiple of the 8"),
        (BATCH + "low = 32\nhigh = 64\nis_whole = true", "train.batch_size = 33: .*; name values"),
        (BATCH + "low = 32\nhigh = 64", "size = 36.0: .*a multiple of the 8 replicas, got 36; na"),
        ('[[parameter]]\nkey = "train.epochs"\nlow = 1\nhigh = 4', "train.epochs = 1.375: .*whole"),
        ("algorithm = 'grid'\n" + GAMMA + "low = 1\nhigh = 2",
         "loss.gamma: .*a grid takes values.*got a range of real numbers, 1.0-2.0; give values"),
        ("parameter = []", "parameter must be given once or more"),
        ("parallel = 30\n" + GAMMA + "values = [1]", r"in 1-20, got 30"),
        ("max_failed = -1\n" + GAMMA + "values = [1]", "max_failed must be 0 or more, got -1"),
    ],
)  # fmt: skip
def test_a_study_that_no_trial_could_run_is_refused(study, message, study_of, capsys):
    assert vertex.main([*FLAGS, *study_of(study), "--dry_run"]) == 2
    [error] = capsys.readouterr().err.splitlines()
    assert "study.toml: " in error
    assert re.search(message, error), error


@pytest.mark.parametrize(
    "study",
    [
        "algorithm = 'grid'\n" + GAMMA + "low = 1\nhigh = 3\nis_whole = true",
        "algorithm = 'grid'\n" + RATE + "values = [1e-4, 1e-3]",
        "algorithm = 'random'\n" + RATE + "low = 1e-4\nhigh = 1e-3\nscale = 'log'",
        BATCH + "values = [64.0, 32.0]",  # the tuner gives numbers so, and the trial reads them
    ],
)
def test_a_study_that_the_api_takes_passes(study, study_of, printed):
    job = printed(HyperparameterTuningJob, *study_of(study))
    assert len(job.study_spec.parameters) == 1


def test_a_switch_is_tuned_as_the_recipe_writes_it(study_of, printed):
    key = "optimizer.learning_rate_per_256"
    study = study_of(f'[[parameter]]\nkey = "{key}"\nvalues = [true, false]')
    [parameter] = printed(HyperparameterTuningJob, *study).study_spec.parameters
    values = list(parameter.categorical_value_spec.values)
    recipes = [load_config(None, as_overrides([f"--{key}={value}"])[1:]) for value in values]
    assert [recipe.optimizer.learning_rate_per_256 for recipe in recipes] == [True, False]
