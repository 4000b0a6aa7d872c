"""`trainer.task` for one trial, which ends, with all of it saved, when the search does.

A search that is killed without a chance to say so would leave trials behind that train on unseen,
and whose folders the next search would write into as well. Its end closes the pipe that is stdin
here. `trainer.search.processes` starts it, with the task's command line.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from trainer.task import main


def _end_with_search() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass  # nothing is ever written
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_search, daemon=True).start()
    sys.exit(main(sys.argv[1:]))
