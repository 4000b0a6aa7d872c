"""A worker's process, with nothing but a worker's requirements: run by test_worker.py.

    python clean_worker.py JOBS BLOCKED

JOBS is a file of pickled DoFns and what they are given; BLOCKED names the modules that must not be.
"""

import json
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path


class Blocked(MetaPathFinder):
    """Modules that a worker does not have."""

    def __init__(self, names):
        self._names = frozenset(names)

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"a worker has no {fullname}", name=fullname)
        return


def main():
    blocked = json.loads(Path(sys.argv[2]).read_text())
    sys.meta_path.insert(0, Blocked(blocked))
    from apache_beam.internal import pickler

    done = []
    for text, elements in json.loads(Path(sys.argv[1]).read_text()):
        dofn = pickler.loads(text.encode())
        dofn.setup()
        for element in elements:
            done.append(len(list(dofn.process(element) or ())))
        dofn.teardown()
    print(
        json.dumps(
            {"done": done, "modules": sorted({name.partition(".")[0] for name in sys.modules})}
        )
    )


main()
