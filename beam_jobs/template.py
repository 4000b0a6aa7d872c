r"""What a Flex Template's launcher runs, and what the templates say of their parameters.

    python -m beam_jobs.template --job=verify_records --records=gs://BUCKET/out/256 --adopt=true …
    python -m beam_jobs.template --write docker/templates

The launcher gives every parameter as `--name=value`, with Dataflow's own beside them. The second
form writes the metadata of each job, made from its parser; it is run when a flag changes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from beam_jobs.run_flags import DATAFLOW_FLAGS
from pipeline.command_line import Parser, names, run, whole_numbers
from pipeline.errors import SettingsError
from pipeline.storage import bucket_name

JOBS = ("make_records", "verify_records", "find_duplicates", "score_images")

_PATH = rf"gs://{bucket_name.PATTERN}(/[^\r\n]*)?"
_PATHS = {
    "images", "output", "spec", "csv", "from_folders", "values_npy", "drop", "join_groups",
    "records", "codes", "dataset", "other", "models", "ensemble",
}  # fmt: skip
_TEXT = r"[^\r\n]+"
_BY_TYPE: dict[Any, str] = {
    int: r"[0-9]+",
    float: r"[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?",
    whole_numbers: r"[0-9]+(,[0-9]+)*",
    names: r"[^,\r\n]+(,[^,\r\n]+)*",
}
# Flags of where a job runs: a template's job runs on Dataflow, whose own come from the launcher.
_NOT_ASKED = {"help", "runner", "workers", "no_wait", "dataflow_option", *DATAFLOW_FLAGS}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the metadata, or runs the job that the launcher asks for."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["--write"]:
        return run("template", lambda: _write(words[1:]))
    try:
        job, flags = job_flags(words)
    except SettingsError as error:
        print(f"template: error: {error}", file=sys.stderr)
        return 2
    code: int = importlib.import_module(f"beam_jobs.{job}").main(flags)
    return code


def job_flags(words: Sequence[str]) -> tuple[str, list[str]]:
    """The job and its command line from a launcher's `--name=value`, or `--name` of a switch.

    A value that is empty stands for a parameter left out, commas part the values of a list. What
    the job's parser doesn't know is Beam's, and is passed on as such.

    Raises:
      SettingsError: no job is named, or a parameter is none or not of its kind.
    """
    given = [(name, value) for name, value in map(_parameter, words) if value != ""]
    job = dict(given).get("job") or ""
    if job not in JOBS:
        raise SettingsError(f"job must be one of {', '.join(JOBS)}, got {job!r}")
    parser, positionals = parser_of(job), {}
    flags = ["--runner=dataflow"]  # the launcher says DataflowRunner
    order = [action.dest for action in parser._actions if not action.option_strings]
    for name, value in given:
        if name in ("job", "runner"):
            continue
        if name in order and value is not None:
            positionals[name] = value
        elif action := parser._option_string_actions.get(f"--{name}"):
            flags += _flag(action, name, value)
        else:
            flags.append(f"--dataflow_option={name}" + ("" if value is None else f"={value}"))
    return job, [*(positionals[name] for name in order if name in positionals), *flags]


def metadata(job: str) -> dict[str, Any]:
    """The `TemplateMetadata` of a job: each parameter with a regex that its value must match."""
    parser = parser_of(job)
    summary = (parser.description or "").splitlines()[0]
    parameters = [
        {
            "name": "job",
            "label": "job",
            "helpText": f"{job}: the image holds them all",
            "regexes": [f"^{job}$"],
        },
        *(_describe(action) for action in parser._actions if _name(action) not in _NOT_ASKED),
        {
            "name": "sdk_container_image",
            "label": "sdk container image",
            "helpText": "the workers' image: the template's own, by digest",
            "regexes": [r"^[^\s]+@sha256:[0-9a-f]{64}$"],
        },
    ]
    return {"name": f"foldstream {job}", "description": summary, "parameters": parameters}


def parser_of(job: str) -> Parser:
    """The parser of a job's entry point."""
    parser: Parser = importlib.import_module(f"beam_jobs.{job}").build_parser()
    return parser


def value_pattern(action: argparse.Action) -> str:
    """The regex of a flag's value, anchored at both ends."""
    if action.nargs == 0:
        return "^(true|false)$"
    if action.choices is not None:
        return f"^({'|'.join(re.escape(str(choice)) for choice in action.choices)})$"
    if _name(action) in _PATHS:
        in_list = _PATH.replace("[^", "[^,")
        return f"^{in_list}(,{in_list})*$" if action.nargs == "+" else f"^{_PATH}$"
    return f"^{_BY_TYPE.get(action.type, _TEXT)}$"


def _describe(action: argparse.Action) -> dict[str, Any]:
    name = _name(action)
    is_positional = not action.option_strings
    is_needed = action.required if not is_positional else action.nargs != "?"
    return {
        "name": name,
        "label": name.replace("_", " "),
        "helpText": action.help,
        **({} if is_needed else {"isOptional": True}),
        "regexes": [value_pattern(action)],
    }


def _name(action: argparse.Action) -> str:
    """As the user types it, without the hyphens."""
    long = [word for word in action.option_strings if word.startswith("--")]
    return long[0].removeprefix("--") if long else action.dest


def _flag(action: argparse.Action, name: str, value: str | None) -> list[str]:
    """A parameter as a flag of the job's own."""
    if value is None:
        return [f"--{name}"]
    if action.nargs == "+":
        return [f"--{name}", *value.split(",")]
    if action.nargs != 0:
        return [f"--{name}={value}"]
    if value.lower() not in ("true", "false"):
        raise SettingsError(f"{name} must be true or false, got {value!r}")
    return [f"--{name}"] if value.lower() == "true" else []


def _parameter(word: str) -> tuple[str, str | None]:
    name, equals, value = word.partition("=")
    if not name.startswith("--"):
        raise SettingsError(f"a parameter must be --name=value, got {word!r}")
    return name[2:], value if equals else None


def _write(folders: Sequence[str]) -> int:
    if len(folders) != 1:
        raise SettingsError(f"--write must name one folder, got {len(folders)}")
    for name, text in _files():
        (Path(folders[0]) / name).write_text(text, encoding="utf-8")
    return 0


def _files() -> Iterator[tuple[str, str]]:
    for job in JOBS:
        yield f"{job}.json", json.dumps(metadata(job), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
