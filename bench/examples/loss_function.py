"""A loss that returns its gradient too, in NumPy, right and wrong.

python bench/verify.py --subject bench/examples/loss_function.py:softmax_loss \\
    --reference torch.nn.functional.cross_entropy --input 4,3 --input 4:long:3
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def softmax_loss(x: Array, y: Array) -> tuple[float, Array]:
    """The mean over the samples of the negative logarithm of softmax at the label."""
    shifted = x - x.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(p[rows, y]).mean()
    dx = p.copy()
    dx[rows, y] -= 1
    return loss, dx / len(y)


def wrong_softmax_loss(x: Array, y: Array) -> tuple[float, Array]:
    """The same, with the gradient of a sum."""
    loss, dx = softmax_loss(x, y)
    return loss, dx * len(y)
