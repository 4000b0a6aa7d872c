"""The memory of a training process does not grow with its epochs."""

import subprocess
import sys

import pytest

from records_factory import write_toy_records

RECIPE = """
[data]
cache = "{cache}"
[[augment]]
op = "flip_left_right"
[model]
backbone = "small-cnn"
[optimizer]
ema_decay = 0.9
[train]
epochs = 20
batch_size = 16
evaluate_every = 1
checkpoint_every = 5
"""
# Prints the resident megabytes at each epoch's end.
SCRIPT = """
import sys
from pathlib import Path
from trainer.running.journal import Journal
from trainer.task import main

epoch_ended = Journal.epoch_ended

def printing(self, *args):
    epoch_ended(self, *args)
    print("resident", int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)

Journal.epoch_ended = printing
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow  # twenty epochs in a process of its own
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_memory_stays_within_3_percent_from_the_5th_to_the_20th_epoch(tmp_path, cache):
    write_toy_records(tmp_path / "records", rows=400, size_px=64, parts=("fold0", "fold1"))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(cache=cache))
    words = ["--records", f"{tmp_path}/records", "--run", f"{tmp_path}/run", "--folds", "0"]
    words += ["--config", f"{tmp_path}/recipe.toml"]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    megabytes = [float(line.split()[1]) for line in lines if line.startswith("resident")]
    assert len(megabytes) == 20
    assert max(megabytes[5:]) < 1.03 * megabytes[4], megabytes
