"""Mixing each example with another of its batch: mixup and cutmix, within the training step.

`build_mix` makes one function for `trainer.loop` of a recipe's batch ops. Plain tensor operations
of static shapes, without state, so that XLA compiles them into the step; they cost the host
nothing. TensorFlow is imported where it is first needed, for the table of ops is read before.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from pipeline.records.label import LabelInfo
from pipeline.stream.augment.ops import BatchOp, Op, check_probability

if TYPE_CHECKING:
    import tensorflow as tf

    Tensors = dict[str, tf.Tensor]
    # (inputs, targets, mask, int64 [2] seed) → the first three, mixed
    Mix = Callable[
        [Tensors, Tensors, tf.Tensor, tf.Tensor], tuple[Tensors, Tensors, tf.Tensor]
    ]  # fmt: skip

_TINY = 1e-30


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixUp:
    """Averages two examples with the weights λ and 1 - λ, λ of Beta(alpha, alpha).

    Zhang et al. 2017 (arXiv 1710.09412); λ is drawn for each example.
    """

    draws: ClassVar[int] = 2
    alpha: float = 0.2
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha("mixup", self.alpha)
        check_probability("mixup", self.probability)

    def shares(self, u: tf.Tensor, size_px: int) -> tf.Tensor:
        return beta(self.alpha, u[:, 0], u[:, 1])[:, None, None, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutMix:
    """Puts a window of another example, of the area 1 - λ, in the same place of this one.

    Yun et al. 2019 (arXiv 1905.04899): λ of Beta(alpha, alpha), the centre anywhere; the target's
    share is the area that is left of a window which the edge cuts.
    """

    draws: ClassVar[int] = 4
    alpha: float = 1.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_alpha("cutmix", self.alpha)
        check_probability("cutmix", self.probability)

    def shares(self, u: tf.Tensor, size_px: int) -> tf.Tensor:
        import tensorflow as tf

        half = tf.sqrt(1 - beta(self.alpha, u[:, 0], u[:, 1])) / 2
        pixels = (tf.range(size_px, dtype=tf.float32) + 0.5) / size_px
        is_in = [tf.abs(pixels - u[:, axis, None]) < half[:, None] for axis in (2, 3)]
        is_cut = is_in[0][:, :, None] & is_in[1][:, None, :]
        return 1 - tf.cast(is_cut, tf.float32)[..., None]


def build_mix(ops: Sequence[Op], label: LabelInfo) -> Mix | None:
    """The batch ops of a recipe as one function of a replica's batch; None where there are none.

    It takes `inputs["image"]` as float32 [B, S, S, 3] and gives the same; other floating inputs are
    mixed in the proportion of the pixels, so are the mask (weights) and the targets. Class indices
    become float32 [B, C], of a binary label [B, 1]. The partner is the next example of the batch,
    which comes shuffled.

    An example is mixed only with one of which the same outputs are known, and neither is masked
    out; else it stays as it is. So -1 stays -1, and nothing that is known is lost.
    """
    mixing = [(number, op) for number, op in enumerate(ops) if isinstance(op, BatchOp)]
    if not mixing:
        return None
    import tensorflow as tf

    def mix(
        inputs: Tensors, targets: Tensors, mask: tf.Tensor, seed: tf.Tensor
    ) -> tuple[Tensors, Tensors, tf.Tensor]:
        targets = {name: _soft(target, label) for name, target in targets.items()}
        image = inputs["image"]
        batch_size, size_px = image.shape[0], image.shape[1]
        for number, op in mixing:
            op_seed = tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
            u = _uniforms([batch_size, 1 + op.draws], op_seed)
            is_mixed = (u[:, 0] < op.probability) & _can_mix(targets, mask)
            shares = tf.where(is_mixed[:, None, None, None], op.shares(u[:, 1:], size_px), 1.0)
            own = tf.reduce_mean(shares, axis=[1, 2, 3])
            inputs = {
                name: _mixed(field, shares if name == "image" else own)
                for name, field in inputs.items()
            }
            targets = {name: _mixed_targets(target, own) for name, target in targets.items()}
            mask = _mixed(mask, own)
        return inputs, targets, mask

    return mix


def beta(alpha: float, u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """Two float32 uniforms of [0, 1) → float32 of the distribution Beta(alpha, alpha).

    By Student's t with 2 alpha degrees of freedom, in the polar form of Bailey 1994 (Mathematics of
    Computation 62, page 779), whose squared radius is u**(-1 / alpha) - 1. Written with
    u**(1 / alpha), which cannot overflow. Without rejection, so with static shapes.
    """
    import tensorflow as tf

    near = u ** (1 / alpha)
    cos = tf.cos(2 * math.pi * v)
    t = cos * tf.sqrt((1 - near) / tf.maximum(near + (1 - near) * cos**2, _TINY))
    return tf.clip_by_value((1 + t) / 2, 0.0, 1.0)


def _uniforms(shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """float32 in [0, 1), the same with and without XLA, which makes other floats of its bits."""
    import tensorflow as tf

    bits = tf.random.stateless_uniform(shape, seed, None, None, tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def _soft(target: tf.Tensor, label: LabelInfo) -> tf.Tensor:
    """int64 [B] or float32 [B, C] → float32 [B, C], -1 where unknown; of a binary label [B, 1]."""
    import tensorflow as tf

    if not target.dtype.is_integer:
        return target
    if label.kind == "binary":
        return tf.cast(target, tf.float32)[:, None]
    is_known = (target >= 0)[:, None]
    return tf.where(is_known, tf.one_hot(target, len(label.classes)), -1.0)


def _can_mix(targets: Tensors, mask: tf.Tensor) -> tf.Tensor:
    """bool [B]: this example and its partner know the same outputs, and both count."""
    import tensorflow as tf

    can = (mask > 0) & (_partner(mask) > 0)
    for target in targets.values():
        known = target >= 0
        can &= tf.reduce_all(known == _partner(known), axis=1)
    return can


def _mixed(field: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """[B, ...] with its partner, own shares [B] or of the field's rank; integers as they are."""
    import tensorflow as tf

    if not field.dtype.is_floating:
        return field
    if len(own.shape) == 1:
        own = tf.reshape(own, [-1] + [1] * (len(field.shape) - 1))
    return own * field + (1 - own) * _partner(field)


def _mixed_targets(target: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return tf.where(target < 0, -1.0, _mixed(target, own))


def _partner(field: tf.Tensor) -> tf.Tensor:
    """[B, ...]: the next example of the batch, for the last one the first."""
    import tensorflow as tf

    return tf.roll(field, -1, axis=0)


def _check_alpha(op: str, alpha: float) -> None:
    if not 0.01 <= alpha <= 100:
        raise ValueError(f"{op}: alpha must be in [0.01, 100], got {alpha}")
