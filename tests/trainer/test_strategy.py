"""`trainer.strategy`: which devices are taken, and what is refused."""

import types

import pytest
import tensorflow as tf

from trainer.strategy import DeviceError, check_replicas, make_strategy


def test_without_accelerators_and_flags_it_is_the_one_cpu():
    assert make_strategy(None, None, 7).num_replicas_in_sync == 1


def test_a_tpu_that_was_asked_for_is_never_silently_a_cpu():
    with pytest.raises(DeviceError, match=r"--tpu must name a TPU that answers .*, got 'nowhere'"):
        make_strategy("nowhere", None, 8)


@pytest.mark.parametrize(("replicas", "batch_size"), [(0, 8), (3, 8)])
def test_a_batch_that_does_not_divide_over_the_replicas_is_refused(replicas, batch_size):
    with pytest.raises(DeviceError, match="must be"):
        check_replicas(replicas, batch_size)


def test_replicas_after_the_devices_have_started_are_refused():
    tf.config.list_logical_devices()
    with pytest.raises(DeviceError, match="use a fresh process"):
        make_strategy(None, 2, 8)


def test_a_tpu_of_several_hosts_is_refused(monkeypatch):
    pod = types.SimpleNamespace(extended=types.SimpleNamespace(num_hosts=4))
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", str)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda resolver: None)
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda resolver: None)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: pod)
    with pytest.raises(DeviceError, match=r"a TPU of one host.*got 'pod' with 4 hosts"):
        make_strategy("pod", None, 8)
