"""`trainer.preflight.module` and `host_ops`: what a traced step says of itself."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.preflight.host_ops import host_ops
from trainer.preflight.module import HostOpError, digest, host_calls, largest_maps, without_copies
from trainer.preflight.step import stablehlo

VECTOR = (tf.TensorSpec([4]),)


def test_two_traces_of_one_function_have_one_digest_and_another_function_another():
    def triple(x):
        return tf.sin(x) * 3.0

    first = stablehlo(triple, VECTOR)
    for _ in range(3):  # whatever was traced before counts names on
        again = stablehlo(lambda x: triple(x), VECTOR)
    assert digest(first) == digest(again)
    assert digest(first) != digest(stablehlo(lambda x: tf.sin(x) * 3.5, VECTOR))
    assert digest(first) != digest(first, "v3-8")


def test_copies_are_replaced_by_what_they_copied():
    text = (
        "module @m {\n"
        "  %0 = stablehlo.add %arg0, %arg0 : tensor<4xf32> loc(#loc1)\n"
        "  %1 = mhlo.copy %0 : tensor<4xf32> loc(#loc1)\n"
        "  return %arg0, %1, %10 : tensor<4xf32> loc(#loc)\n"
        "}\n"
    )
    bare = without_copies(text)
    assert "copy" not in bare
    assert "return %arg0, %0, %10" in bare


def test_a_variable_that_is_assigned_leaves_no_copy():
    variable = tf.Variable(np.zeros(4, np.float32))

    def assign(x):
        variable.assign_add(x)
        return tf.reduce_sum(x)

    text = stablehlo(assign, VECTOR)
    assert "mhlo.copy" in text
    assert "mhlo.copy" not in without_copies(text)


def test_a_planted_host_op_is_reported_by_name_and_line():
    def step(x):
        with tf.name_scope("planted"):
            y = tf.numpy_function(np.sin, [x], tf.float32)
        return tf.ensure_shape(y, [4]) + x

    with pytest.raises(HostOpError, match=r"PyFunc planted/PyFunc \(test_preflight_module.py:\d+"):
        stablehlo(step, VECTOR)


def test_a_planted_host_op_in_a_function_that_is_called_is_found():
    @tf.function(autograph=False)
    def inner(x):
        return tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), [4])

    graph = tf.function(lambda x: inner(x) + 1.0).get_concrete_function(*VECTOR).graph
    [name] = host_ops(graph)
    assert name.startswith("EagerPyFunc ")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "%1 = stablehlo.custom_call @xla_python_cpu_callback(%0) {api_version = 2 : i32} : "
            "(tensor<4xf32>) -> tensor<4xf32> loc(#loc3)",
            ["custom_call xla_python_cpu_callback (head/callback)"],
        ),
        (
            '%1 = "stablehlo.infeed"(%0) <{infeed_config = ""}> : (!stablehlo.token) -> '
            "tensor<4xf32> loc(#loc3)",
            ["infeed (head/callback)"],
        ),
        ("%1 = stablehlo.custom_call @Sharding(%0) : (tensor<4xf32>) -> tensor<4xf32>", []),
        ("%1 = stablehlo.add %0, %0 : tensor<4xf32> loc(#loc3)", []),
    ],
    ids=["a call of the host", "what is fed in", "a note to the compiler", "arithmetic"],
)
def test_calls_of_the_host_are_named(line, told):
    text = f'#loc2 = loc("head/callback")\n  {line}\n#loc3 = loc(fused["PyFunc:", #loc2])\n'
    assert host_calls(text) == told


def test_the_largest_maps_are_those_of_the_convolutions_towards_the_loss():
    kernel = tf.Variable(tf.ones([3, 3, 2, 5], tf.bfloat16))

    def step(x):
        with tf.GradientTape() as tape:
            with tf.name_scope("first"):
                y = tf.nn.conv2d(x, kernel, 1, "SAME")
            with tf.name_scope("second"):
                y = tf.nn.conv2d(y, tf.ones([1, 1, 5, 2], tf.bfloat16), 2, "SAME")
            y = y * y
        return tape.gradient(y, kernel)

    text = stablehlo(step, (tf.TensorSpec([4, 8, 8, 2], tf.bfloat16),))
    told = [(name.partition("/")[0], size) for name, size in largest_maps(text, 3)]
    assert told == [("first", 4 * 8 * 8 * 5 * 2), ("second", 4 * 4 * 4 * 2 * 2)]
