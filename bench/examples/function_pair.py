"""A function that goes forward and one that goes back, in NumPy, right and wrong.

python bench/verify.py --subject bench/examples/function_pair.py:affine_forward,affine_backward \\
    --reference torch.nn.Linear --reference-init '5, 3' --input 4,5
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Cache = tuple[Array, Array, Array]


def affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, Cache]:
    """x w + b, and what the backward pass needs."""
    return x @ w + b, (x, w, b)


def affine_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """The gradients of x, w and b."""
    x, w, _ = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)


def wrong_affine_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """The same, but the gradient of b has one term too few."""
    dx, dw, _ = affine_backward(dout, cache)
    return dx, dw, dout[:-1].sum(axis=0)
