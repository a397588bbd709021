"""A function of one number and its derivative, right and wrong.

python bench/verify.py --subject bench/examples/derivative.py:sigmoid,sigmoid_prime \\
    --reference torch.sigmoid --input 4,3
"""

import math


def sigmoid(x: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-x))


def sigmoid_prime(x: float) -> float:
    """Its derivative."""
    return sigmoid(x) * (1 - sigmoid(x))


def wrong_sigmoid_prime(x: float) -> float:
    """The same, for the output of another function."""
    return x * (1 - sigmoid(x))
