r"""What a trial of Vertex AI's tuner runs: `trainer.task`, each tuned setting a flag of its own.

    python -m trainer.trial --records gs://… --config gs://… --optimizer.learning_rate=0.0003

The tuner gives `--KEY=VALUE` where `trainer.task` takes `--set KEY=VALUE`, and of given numbers may
write 64.0 for 64, which no count takes; all else is passed on.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from trainer import task

_WHOLE = re.compile(r"^(-?[0-9]+)\.0+$")


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as `trainer.task` does."""
    return task.main(as_overrides(sys.argv[1:] if argv is None else argv))


def as_overrides(words: Sequence[str]) -> list[str]:
    """The same command line with `--set a.b=value` for `--a.b=value`."""
    changed: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key[:2] == "--" and "." in key:
            changed += ["--set", key[2:] + equals + _WHOLE.sub(r"\1", value)]
        else:
            changed.append(word)
    return changed


if __name__ == "__main__":
    sys.exit(main())
