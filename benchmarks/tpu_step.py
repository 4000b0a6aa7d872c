"""What the trainer's step moves on a TPU, against the plain Keras step of the same network.

    python -m benchmarks.tpu_step [--tpu_type v3-8] [--backbone efficientnet-b0 --size_px 256]
        [--batch 64] [--only NAME,NAME] [--cache FOLDER]

Compiles each step below for one core, without a TPU, and prints its traffic an image, its share of
the first one's, and the cycles that the compiler reckons with. A compilation of EfficientNet-B0
takes some 100 s of two idle cores; verdicts are kept, so that the command goes on where it stopped.

- `keras-float32`, `keras-bfloat16`: `tf.keras.applications`, binary cross-entropy, Adam; as a plain
  script has it, without clipping, averages, augmentation on the device.
- `ours`: the step of configs/b0.toml with clipping and an average of the weights.
- `ours-unfused`: with `model.fused_norm=false`.
- `ours-mixed`: with mixup and cutmix, which run on the device.
- `ours-bare`: without clipping and average.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from pipeline.command_line import names
from trainer.preflight.__main__ import default_cache
from trainer.preflight.compiler import Compiler, compiler_version
from trainer.preflight.estimate import Roofline
from trainer.preflight.step import stablehlo, traced_steps
from trainer.preflight.subject import add_flags, read_subject
from trainer.preflight.tpu_types import TPU_TYPES

RECIPE = "configs/b0.toml"
ABOARD = ("optimizer.clip_norm=1.0", "optimizer.ema_decay=0.999")
MIXING = 'augment=[{op = "mixup"}, {op = "cutmix"}]'


def keras_step(policy: str, backbone: str, size_px: int, batch: int) -> str:
    """StableHLO of a plain script's step: float32 images, one logit, Adam."""
    tf.keras.backend.clear_session()
    tf.keras.mixed_precision.set_global_policy(policy)
    build = getattr(tf.keras.applications, f"EfficientNetB{backbone[-1]}")
    base = build(include_top=False, weights=None, input_shape=(size_px, size_px, 3), pooling="avg")
    logits = tf.keras.layers.Dense(1, dtype="float32")(base.output)
    model = tf.keras.Model(base.input, logits)
    optimizer = tf.keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)

    def step(images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
            loss = tf.reduce_mean(losses)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return stablehlo(step, (tf.TensorSpec([batch, size_px, size_px, 3]), tf.TensorSpec([batch, 1])))


def our_step(backbone: str, size_px: int, batch: int, cores: int, *further: str) -> str:
    """StableHLO of the trainer's training step."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    words = ["--config", RECIPE, "--size_px", str(size_px)]
    for setting in (f"model.backbone={backbone}", *further):
        words += ["--set", setting]
    subject = read_subject(parser.parse_args(words))
    return next(traced_steps(subject, batch=batch, cores=cores)).stablehlo


def steps(backbone: str, size_px: int, batch: int, cores: int) -> dict[str, Callable[[], str]]:
    """By name, a function that traces it."""
    of = (backbone, size_px, batch)
    return {
        "keras-float32": lambda: keras_step("float32", *of),
        "keras-bfloat16": lambda: keras_step("mixed_bfloat16", *of),
        "ours-unfused": lambda: our_step(*of, cores, *ABOARD, "model.fused_norm=false"),
        "ours": lambda: our_step(*of, cores, *ABOARD),
        "ours-mixed": lambda: our_step(*of, cores, *ABOARD, MIXING),
        "ours-bare": lambda: our_step(*of, cores),
    }


def main() -> int:
    """Compiles, prints, returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tpu_type", choices=tuple(TPU_TYPES), default="v3-8")
    parser.add_argument("--backbone", default="efficientnet-b0")
    parser.add_argument("--size_px", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64, help="examples a core")
    parser.add_argument("--only", type=names, help="some of the steps, such as ours,ours-mixed")
    parser.add_argument("--cache", default=default_cache())
    flags = parser.parse_args()
    tpu = TPU_TYPES[flags.tpu_type]
    traced = steps(flags.backbone, flags.size_px, flags.batch, tpu.cores)
    if unknown := sorted({*(flags.only or ())} - {*traced}):
        parser.error(f"--only must be among {', '.join(traced)}, got {unknown[0]}")
    compiler = Compiler(tpu_type=flags.tpu_type, cache_folder=flags.cache, timeout_s=4 * 3600.0)
    print(
        f"{flags.backbone} at {flags.size_px} px, batch {flags.batch} on a core of "
        f"{flags.tpu_type}; {compiler_version()}"
    )
    print(
        f"{'step':<16}{'MB an image':>13}{'share':>8}{'GFLOP':>8}{'Mcycles a step':>16}{'GiB':>8}"
    )
    found: dict[str, Any] = {}
    for name in flags.only or traced:
        verdict = compiler.verdict(traced[name]())
        if verdict.refusal is not None:
            print(f"{name:<16}  refused: {' '.join(verdict.refusal.split())[:150]}", flush=True)
            continue
        roofline = Roofline(tpu=tpu, verdict=verdict, batch=flags.batch)
        found[name] = roofline.bytes_per_image
        first = found.get("keras-float32")
        share = f"{found[name] / first:.3f}" if first else ""
        print(
            f"{name:<16}{found[name] / 1e6:>13.1f}{share:>8}"
            f"{roofline.flops_per_image / 1e9:>8.2f}{verdict.cycles / 1e6:>16.1f}"
            f"{verdict.memory_bytes / 2**30:>8.2f}",
            flush=True,
        )
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
