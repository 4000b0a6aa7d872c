"""Ways to combine the predictions of several runs into one: numpy in, numpy out.

`trainer.ensemble` aligns the members and calls one of `METHODS` by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Probs = npt.NDArray[np.float64]


def combine_mean(members: Sequence[Probs]) -> Probs:
    """float64 [N, L] probabilities, one array a member -> their mean, float64 [N, L].

    The mean chooses nothing, so out-of-fold figures of the result are as honest as the members'.
    """
    return np.asarray(np.stack(members).mean(axis=0))


METHODS: dict[str, Callable[[Sequence[Probs]], Probs]] = {
    "mean": combine_mean,
}
