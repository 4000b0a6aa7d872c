"""Two replicas train as one does; in a process of its own, where devices can still be set."""

import json
import subprocess
import sys

import numpy as np

SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf
from trainer.loop import Loop
from trainer.losses import LossConfig
from trainer.optimizers import OptimizerConfig, build_optimizer
from trainer.strategy import make_strategy

two = make_strategy(None, 2, 8)
rng = np.random.default_rng(0)
images = rng.random((32, 8, 8, 3), np.float32)
targets = rng.integers(0, 2, 32)
mask = np.ones(32, np.float32)
data = ({"image": images, "row": np.arange(32)}, {"target": targets}, mask)
results = []
for strategy in (tf.distribute.get_strategy(), two):
    for clip_norm in (None, 0.05):
        tf.keras.utils.set_random_seed(1)
        with strategy.scope():
            image = tf.keras.Input((8, 8, 3), name="image")
            features = tf.keras.layers.Conv2D(8, 3, activation="relu")(image)
            features = tf.keras.layers.GlobalAveragePooling2D()(features)
            logits = tf.keras.layers.Dense(1)(features)
            model = tf.keras.Model({"image": image}, {"target": logits})
            config = OptimizerConfig(kind="momentum", weight_decay=1e-2, clip_norm=clip_norm)
            rates = np.full(64, 0.5, np.float32)
            optimizer = build_optimizer(config, rates, model.trainable_variables)
        loop = Loop(
            strategy=strategy, model=model, optimizer=optimizer, steps_per_call=3, batch_size=8,
            losses=(LossConfig(kind="bce"),), clip_norm=clip_norm,
        )
        batches = tf.data.Dataset.from_tensor_slices(data).batch(8)
        losses = [loop.train(batches, 4) for _ in range(4)]
        rows, logits = loop.predict(batches)
        order = np.argsort(rows)
        results.append({"losses": losses, "rows": rows[order].tolist(),
                        "logits": logits[order, 0].tolist()})
json.dump(results, sys.stdout)
"""


def test_two_replicas_give_the_losses_and_logits_of_one_clipped_or_not():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    one, one_clipped, two, two_clipped = json.loads(done.stdout)
    for single, double in ((one, two), (one_clipped, two_clipped)):
        np.testing.assert_allclose(single["losses"], double["losses"], rtol=1e-4)
        np.testing.assert_allclose(single["logits"], double["logits"], rtol=1e-4, atol=1e-5)
        assert single["rows"] == double["rows"] == list(range(32))
    assert one["losses"][-1] < one["losses"][0]
    assert abs(one["losses"][-1] - one_clipped["losses"][-1]) > 1e-3
