"""Times each augmentation op: ms an image, on one thread of the host.

    python benchmarks/augment_ops.py --records out/256

Each op alone, at its middle strength and probability 1, through the chain that the stream uses:
drawing, one warp for an op that moves pixels, and the change itself. Crops need more stored pixels
than the batch has, so they give half the size. Mixing is timed as the training step runs it, on the
CPU: images are then float32, and memory is what it waits for. `benchmarks/stream.py` calls
`op_costs`.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.records.label import LabelInfo
from pipeline.stream.augment.chain import Chain
from pipeline.stream.augment.mix import build_mix
from pipeline.stream.augment.ops import BatchOp, Image, Op
from pipeline.stream.augment.recipe import OPS
from pipeline.stream.gallery import read_pictures
from pipeline.stream.records import open_records

_ROUNDS = 10  # the fastest counts, in time of the processor: other work on the machine only adds


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", required=True, help="a record set, such as out/256")
    parser.add_argument("--images", type=int, default=128, help="how many (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Prints two tables."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    args = build_parser().parse_args(argv)
    images = read_pictures(open_records(args.records), args.images)
    print(f"{len(images)} images of {images[0].shape[0]} px, one thread\n\nop: ms an image")
    for name, milliseconds in op_costs(images):
        print(f"{name:22}{milliseconds:8.3f}")
    print("\nmixing in the step, float32: ms an image, XLA ms an image")
    for name, plain, compiled in mix_costs(images):
        print(f"{name:22}{plain:8.3f}{compiled:8.3f}")
    return 0


def op_costs(images: Sequence[Image]) -> list[tuple[str, float]]:
    """Each op of the host with its ms an image; uint8 [S, S, 3] images of one size."""
    cv2.setNumThreads(1)
    size_px = images[0].shape[0]
    costs = []
    for name, op in _middle_ops():
        if isinstance(op, BatchOp):
            continue
        needs_stored = getattr(op, "needs_stored", False)
        chain = Chain([op], size_px=size_px // 2 if needs_stored else size_px)
        out = np.empty((len(images), chain.size_px, chain.size_px, 3), np.uint8)
        keys = np.arange(len(images))

        def apply(chain: Chain = chain, out: Any = out, keys: Any = keys) -> None:
            for start in range(0, len(images), 16):  # as render's chunks
                part = slice(start, start + 16)
                chain.apply(images[part], [7], keys[part], out[part])

        costs.append((name, _fastest(apply) / len(images)))
    nothing = _fastest(lambda: [image.copy() for image in images]) / len(images)
    return [("copy", nothing), *costs]


def mix_costs(images: Sequence[Image]) -> list[tuple[str, float, float]]:
    """Each batch op with its ms an image, without XLA and with it, on one thread of the CPU."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    label = LabelInfo(kind="multiclass", classes=("a", "b"))
    inputs = {"image": tf.constant(np.stack(images[:64]), tf.float32) / 255}
    targets = {"target": tf.constant([0, 1] * (len(images[:64]) // 2), tf.int64)}
    mask, seed = tf.ones([len(images[:64])]), tf.constant([1, 2], tf.int64)
    costs = []
    for name, op in _middle_ops():
        if isinstance(op, BatchOp):
            steps = [tf.function(build_mix([op], label), jit_compile=xla) for xla in (False, True)]
            plain, compiled = (
                _fastest(lambda step=step: step(inputs, targets, mask, seed)[0]["image"].numpy())
                for step in steps
            )
            costs.append((name, plain / len(images[:64]), compiled / len(images[:64])))
    return costs


def _middle_ops() -> list[tuple[str, Op]]:
    ops = []
    for name, entry in OPS.items():
        settings = entry.strengths[len(entry.strengths) // 2]
        make: Any = entry.op
        ops.append((name, make(**settings, probability=1.0)))
    return ops


def _fastest(work: Callable[[], Any]) -> float:
    """ms of the fastest of some rounds, after one that does not count."""
    work()
    rounds = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        work()
        rounds.append(time.process_time() - start)
    return min(rounds) * 1e3


if __name__ == "__main__":
    sys.exit(main())
