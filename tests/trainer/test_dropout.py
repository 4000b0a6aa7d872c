"""`trainer.models.dropout`: masks of (seed, layer, call), and nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.models.dropout import SeededDropout, dropout_seeded, seed_dropout

ONES = np.ones((64, 32), np.float32)


def two_layers():
    inputs = tf.keras.Input((32,))
    layer = SeededDropout(0.25)
    return tf.keras.Model(inputs, [layer(inputs), SeededDropout(0.25)(inputs), layer(inputs)])


def masks(model, seed, inputs=ONES):
    with dropout_seeded(tf.constant(seed, tf.int64)):
        return [output.numpy() for output in model(inputs, training=True)]


def test_the_same_seed_drops_the_same_and_another_others():
    model = two_layers()
    first, same, other = (masks(model, seed) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, same)
    assert (np.array(first) != np.array(other)).any()


def test_two_layers_and_two_calls_of_one_drop_differently():
    first, second, again = masks(two_layers(), [1, 2])
    assert (first != second).any()
    assert (first != again).any()


def test_what_is_kept_is_scaled_so_that_the_mean_stays():
    for mask in masks(two_layers(), [1, 2]):
        assert set(np.unique(mask)) == {0.0, np.float32(1 / 0.75)}
        assert abs((mask == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / mask.size)


def test_without_training_nothing_is_dropped_and_no_seed_is_needed():
    for output in two_layers()(ONES, training=False):
        np.testing.assert_array_equal(output, ONES)


def test_training_without_a_seed_is_a_mistake():
    with pytest.raises(AssertionError, match="needs `dropout_seeded` around it"):
        two_layers()(ONES, training=True)


def test_a_batch_of_unknown_size_is_dropped_from_as_one_of_a_known_size():
    layer = SeededDropout(0.5, noise_shape=(None, 1))

    @tf.function(input_signature=[tf.TensorSpec([None, 32])])
    def drop(inputs):
        with dropout_seeded(tf.constant([1, 2], tf.int64)):
            return layer(inputs, training=True)

    with dropout_seeded(tf.constant([1, 2], tf.int64)):
        expected = layer(ONES, training=True)
    np.testing.assert_array_equal(drop(ONES), expected)


def test_keras_dropout_becomes_seeded_and_keeps_its_shape_of_noise():
    inputs = tf.keras.Input((32,))
    outputs = tf.keras.layers.Dropout(0.5, noise_shape=(None, 1))(inputs)
    model = tf.keras.Model(inputs, [outputs])
    seed_dropout(model)
    with dropout_seeded(tf.constant([1, 2], tf.int64)):
        outputs = np.squeeze(model(ONES, training=True))
    assert set(outputs[:, 0]) == {0.0, 2.0}
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:, :1], outputs.shape))
