"""Where training runs: TPU cores, several GPUs, logical CPU devices for a rehearsal, or one device.

`trainer.task` makes one strategy a process, before anything else touches TensorFlow's devices. What
can be refused before TensorFlow's import `check_replicas` refuses.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    import tensorflow as tf


class DeviceError(SettingsError):
    """The devices that were asked for are not there."""


def add_run_flags(group: argparse._ActionsContainer) -> None:
    """Adds what every command takes that runs networks on records."""
    group.add_argument(
        "--allow_failures", action="store_true", help="take records that lack too many rows"
    )
    devices = group.add_mutually_exclusive_group()
    devices.add_argument("--tpu", help="a TPU's name; local on a TPU VM")
    devices.add_argument("--replicas", type=int, help="split the CPU into so many devices")


def check_replicas(replicas: int, batch_size: int) -> None:
    """Raises DeviceError when the global batch does not divide over so many replicas."""
    if replicas < 1:
        raise DeviceError(f"--replicas must be 1 or more, got {replicas}")
    if batch_size % replicas:
        raise DeviceError(
            f"train.batch_size must be a multiple of the {replicas} replicas, got {batch_size}"
        )


def make_strategy(tpu: str | None, replicas: int | None, batch_size: int) -> tf.distribute.Strategy:
    """A strategy for `--tpu NAME` or `--replicas N`; else all GPUs there are, else the one CPU.

    Raises:
      DeviceError: no TPU answers to the name (a TPU that was asked for is never silently a CPU), it
        has several hosts, or the global batch does not divide over the replicas.
    """
    strategy = choose_strategy(tpu, replicas)
    check_replicas(strategy.num_replicas_in_sync, batch_size)
    return strategy


def choose_strategy(tpu: str | None, replicas: int | None) -> tf.distribute.Strategy:
    """As `make_strategy`, for a batch that is yet to be fitted to the replicas."""
    import tensorflow as tf

    if tpu is not None:
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, OSError, tf.errors.OpError) as error:
            raise DeviceError(
                f"--tpu must name a TPU that answers (local on a TPU VM), got {tpu!r}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        strategy = tf.distribute.TPUStrategy(resolver)
        if strategy.extended.num_hosts > 1:
            # Each host would run an input pipeline, but augmentation runs in this process.
            raise DeviceError(
                f"--tpu must name a TPU of one host, such as a v3-8 or v5e-8, got {tpu!r} with "
                f"{strategy.extended.num_hosts} hosts; give each of --folds a TPU of its own"
            )
        return strategy
    if replicas is not None:
        [cpu] = tf.config.list_physical_devices("CPU")
        devices = [tf.config.LogicalDeviceConfiguration()] * replicas
        try:
            tf.config.set_logical_device_configuration(cpu, devices)
        except RuntimeError as error:
            raise DeviceError(
                "--replicas must be set before TensorFlow starts its devices; use a fresh process"
            ) from error
        return tf.distribute.MirroredStrategy([f"CPU:{place}" for place in range(replicas)])
    if tf.config.list_physical_devices("GPU"):
        # Of one GPU as well: its batches are then copied to it ahead of the step.
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()
