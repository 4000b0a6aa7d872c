"""`trainer.running.stopping`, in processes of its own: a signal is for the whole process."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, sys, time
from trainer.running.stopping import Stopped, Stopping

stopping = Stopping()
try:
    with stopping.listening():
        {body}
except Stopped as stopped:
    print("left", flush=True)
    sys.exit(stopped.exit_code)
"""
SHIELDED = """
        with stopping.shielded():
            print("ready", flush=True)
            until = time.monotonic() + {seconds}
            while not (stopping.is_asked and time.monotonic() > until):
                time.sleep(0.01)
            print("saved", flush=True)
        print("went on", flush=True)
"""
OPEN = """
        print("ready", flush=True)
        time.sleep(30)
"""
# A call of minutes that returns to Python only at its end, as one of TensorFlow's.
CALL = """
        with stopping.shielded():
            print("ready", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)
"""


def run(body, *signals):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body=body.strip())],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        for number in signals:
            process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, out.split()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_shielded_block_is_done_before_the_process_leaves(number, code):
    assert run(SHIELDED.format(seconds=0.2), number) == (code, ["saved", "left"])


def test_elsewhere_it_leaves_at_once():
    assert run(OPEN, signal.SIGTERM) == (143, ["left"])


def test_a_second_signal_ends_a_call_that_the_first_must_wait_for():
    code, said = run(CALL, signal.SIGTERM, signal.SIGINT)
    assert said == []
    assert code in (130, 143)  # two signals that wait together arrive in either order


# As XLA's own callback of the collector, which Python was seen to be in when a signal came.
COLLECTING = """
        import gc, signal

        def collecting(phase, info):
            if phase == "start":
                gc.callbacks.clear()
                print("ready", flush=True)
                until = time.monotonic() + 20
                while not stopping.is_asked and time.monotonic() < until:
                    time.sleep(0.01)

        gc.callbacks.append(collecting)
        gc.collect()
        time.sleep(20)
"""


def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost():
    assert run(COLLECTING, signal.SIGTERM) == (143, ["left"])
