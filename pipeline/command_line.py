"""What every entry point's command line has in common."""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pipeline.errors import DataError, SettingsError
from pipeline.settings import nearest
from pipeline.storage_refusals import storage_refusal


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that takes no abbreviations and names the flag nearest to an unknown one.

    Leaves with exit code 2 when the command line is at fault, after one line on stderr.
    """

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(
            prog=f"python -m {prog}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """The flags of `argv` (None: of this process)."""
        words = sys.argv[1:] if argv is None else list(argv)
        known = [option for option in self._option_string_actions if option[:2] == "--"]
        for word in words:  # before argparse asks for a required flag that was only misspelt
            flag = word.partition("=")[0]
            if flag[:2] == "--" and flag not in known:
                self.error(f"unknown flag {flag}; {nearest(flag, known)}")
        return self.parse_args(words)

    def error(self, message: str) -> NoReturn:
        """One line, without the usage text that would push it off the screen."""
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def add_set_flag(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds `--set KEY=VALUE`, which may be repeated: the list `overrides`. `text` is its help."""
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help=text
    )


def names(text: str) -> tuple[str, ...]:
    """`a,b,c` as a tuple; an argparse type."""
    items = tuple(item.strip() for item in text.split(",") if item.strip())
    if not items:
        raise argparse.ArgumentTypeError(f"must be names parted by commas, got {text!r}")
    return items


def whole_numbers(text: str) -> tuple[int, ...]:
    """`256,384` as a tuple of ints ≥ 0; an argparse type."""
    items = names(text)
    if not all(item.isdigit() for item in items):
        raise argparse.ArgumentTypeError(f"must be whole numbers parted by commas, got {text!r}")
    return tuple(int(item) for item in items)


def run(name: str, job: Callable[[], int]) -> int:
    """The exit code of `job`; an error that is the user's to mend is one line on stderr.

    Where nobody reads stdout any more (`| head`), 141 without a word, as of a process that SIGPIPE
    has ended.
    """
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        code = job()
        sys.stdout.flush()  # at exit it would be too late to catch what this raises
        return code
    except BrokenPipeError:
        if not _is_stdout_unread():
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # the flush at exit would fail once more
        return 128 + signal.SIGPIPE
    except SettingsError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        refusal = storage_refusal(error)
        if refusal is None:  # a fault of ours: its stack tells where
            raise
        print(f"{name}: error: {refusal}", file=sys.stderr)
        return 1


def _is_stdout_unread() -> bool:
    """Whether stdout is a pipe whose reader is gone."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # an error is told of whatever is asked for
    return any(events & select.POLLERR for _, events in poll.poll(0))
