"""Where training runs: TPU cores, several GPUs, logical CPU devices for a rehearsal, or one device.

`trainer.task` makes one strategy a process, before anything else touches TensorFlow's devices.
"""

from __future__ import annotations

import tensorflow as tf

from pipeline.errors import SettingsError


class DeviceError(SettingsError):
    """The devices that were asked for are not there."""


def make_strategy(tpu: str | None, replicas: int | None, batch_size: int) -> tf.distribute.Strategy:
    """A strategy for `--tpu NAME` or `--replicas N`; else all GPUs there are, else the one CPU.

    Raises:
      DeviceError: no TPU answers to the name (a TPU that was asked for is never silently a CPU), or
        the global batch does not divide over the replicas.
    """
    strategy = _choose(tpu, replicas)
    if batch_size % strategy.num_replicas_in_sync:
        raise DeviceError(
            f"train.batch_size must be a multiple of the {strategy.num_replicas_in_sync} replicas, "
            f"got {batch_size}"
        )
    return strategy


def _choose(tpu: str | None, replicas: int | None) -> tf.distribute.Strategy:
    if tpu is not None:
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, tf.errors.OpError) as error:
            raise DeviceError(
                f"--tpu must name a TPU that answers (local on a TPU VM), got {tpu!r}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return tf.distribute.TPUStrategy(resolver)
    if replicas is not None:
        if replicas < 1:
            raise DeviceError(f"--replicas must be 1 or more, got {replicas}")
        [cpu] = tf.config.list_physical_devices("CPU")
        devices = [tf.config.LogicalDeviceConfiguration()] * replicas
        try:
            tf.config.set_logical_device_configuration(cpu, devices)
        except RuntimeError as error:
            raise DeviceError(
                "--replicas must be set before TensorFlow starts its devices; use a fresh process"
            ) from error
        return tf.distribute.MirroredStrategy([f"CPU:{place}" for place in range(replicas)])
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()
