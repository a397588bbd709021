"""Kinks: where a derivative jumps, any number between the derivatives of both sides is right."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor

from minifw.testing.comparison import Drawn
from minifw.testing.verdict import largest

__all__ = ["choose_as_reference"]

DRAWS = 8  # of the side on which each number is
STEP = 1e-6  # far below the distance of two numbers of an example, far above its rounding
JUMP, ROOM = 1e-3, 1e-4  # of the largest entry: what counts as a jump, and what a step changes


def choose_as_reference(
    actual: Mapping[str, Tensor],
    exact: Mapping[str, Tensor],
    drawn: Drawn,
    run: Callable[[Drawn], Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """``actual``, with every gradient that is right at a kink replaced by the reference's.

    A derivative jumps where gradients differ when each input is moved by a little, up or down at
    random; what lies between the smallest and the largest of them is a subgradient.

    Args:
        actual: what the subject makes, by name.
        exact: what the reference makes.
        drawn: parameters and inputs.
        run: makes what the reference makes of other inputs.
    """
    generator = Generator().manual_seed(0)

    def step(value: Tensor) -> Tensor:
        up = torch.rand(value.shape, generator=generator) < 0.5
        return torch.where(up, STEP, -STEP).to(value.device)

    nearby = []
    for _ in range(DRAWS // 2):
        steps = [[step(value) for value in values] for values in drawn.inputs]
        for sign in (1, -1):  # each number is on both sides of a kink, whatever is drawn
            inputs = tuple(
                tuple(
                    value.double() + sign * by if value.is_floating_point() else value
                    for value, by in zip(values, row, strict=True)
                )
                for values, row in zip(drawn.inputs, steps, strict=True)
            )
            # The reference may refuse what is moved out of its domain: a probability just above 1.
            with contextlib.suppress(Exception):
                nearby.append(run(replace(drawn, inputs=inputs)))
    if not nearby:
        return dict(actual)
    chosen = {}
    for name, tensor in actual.items():
        chosen[name] = tensor
        if not name.endswith(".grad") or name not in exact or tensor.shape != exact[name].shape:
            continue
        around = torch.stack([there[name].double() for there in nearby])
        low, high, size = around.amin(0), around.amax(0), largest(exact[name].double())
        right = (tensor >= low - ROOM * size) & (tensor <= high + ROOM * size)
        at_kink = right & (high - low > JUMP * size)
        chosen[name] = torch.where(at_kink, exact[name].to(tensor.dtype), tensor)
    return chosen
