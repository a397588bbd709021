"""Recurrent cells and layers, by hand."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant


@variant(torch.nn.RNNCell, "4,3", "4,5", init="3, 5")
class OneProduct(torch.nn.RNNCell):
    """RNNCell with input and state side by side in one product"""

    def forward(self, input: Tensor, state: Tensor) -> Tensor:  # type: ignore[override]
        weight = torch.cat([self.weight_ih, self.weight_hh], 1)
        both = torch.cat([input, state], -1)
        return torch.tanh(F.linear(both, weight, self.bias_ih + self.bias_hh))


@variant(torch.nn.RNNCell, "4,3", "4,5", init="3, 5", kind="Function")
class CellFunction(torch.autograd.Function):
    """RNNCell whose backward pass is written out"""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        y = torch.tanh(x @ w.t() + b + h @ u.t() + c)
        ctx.save_for_backward(x, h, w, u, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, h, w, u, y = ctx.saved_tensors
        d = grad * (1 - y * y)
        rows, inputs, states = (t.reshape(-1, t.shape[-1]) for t in (d, x, h))
        bias = rows.sum(0)
        return d @ w, d @ u, rows.t() @ inputs, rows.t() @ states, bias, bias.clone()


class _LSTMCell(torch.nn.LSTMCell):
    def forward(self, input: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(input, (h, c))


@variant(_LSTMCell, "4,3", "4,5", "4,5", init="3, 5")
class LSTMByHand(torch.nn.LSTMCell):
    """LSTMCell by hand, its states as two arguments"""

    def forward(self, input: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        gates = input @ self.weight_ih.t() + h @ self.weight_hh.t() + self.bias_ih + self.bias_hh
        i, f, g, o = gates.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


@variant(torch.nn.GRUCell, "4,3", "4,5", init="3, 5")
class GRUByHand(torch.nn.GRUCell):
    """GRUCell by hand, with the new state as an interpolation"""

    def forward(self, input: Tensor, state: Tensor) -> Tensor:  # type: ignore[override]
        x = F.linear(input, self.weight_ih, self.bias_ih).chunk(3, -1)
        h = F.linear(state, self.weight_hh, self.bias_hh).chunk(3, -1)
        reset, update = torch.sigmoid(x[0] + h[0]), torch.sigmoid(x[1] + h[1])
        return torch.lerp(torch.tanh(x[2] + reset * h[2]), state, update)


@variant(torch.nn.RNN, "3,6,4", init="4, 5, batch_first=True")
class Unrolled(torch.nn.RNN):
    """RNN unrolled over time"""

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        state = input.new_zeros(*input.shape[:-2], self.hidden_size)
        w, u, b, c = self.parameters()
        states = []
        for x in input.unbind(-2):
            state = torch.tanh(F.linear(x, w, b) + F.linear(state, u, c))
            states.append(state)
        return torch.stack(states, -2), state[None]


@variant(torch.nn.GRU, "3,6,4", init="4, 5, batch_first=True")
class ProjectedAhead(torch.nn.GRU):
    """GRU whose inputs are projected for all times at once"""

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        state = input.new_zeros(*input.shape[:-2], self.hidden_size)
        w, u, b, c = self.parameters()
        states = []
        for x in F.linear(input, w, b).unbind(-2):
            r, z, n = x.chunk(3, -1)
            hr, hz, hn = F.linear(state, u, c).chunk(3, -1)
            z = torch.sigmoid(z + hz)
            state = (1 - z) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + z * state
            states.append(state)
        return torch.stack(states, -2), state[None]


def _scan(gate: Tensor, input: Tensor) -> Tensor:
    state, states = torch.zeros_like(input[..., 0]), []
    for a, x in zip(gate.unbind(-1), input.unbind(-1), strict=True):
        state = a * state + x
        states.append(state)
    return torch.stack(states, -1)


@variant(_scan, "3,8:probability", "3,8", kind="function")
def doubled_scan(gate: Tensor, input: Tensor) -> Tensor:
    """A gated recurrence as a parallel scan of doubling steps"""
    step = 1
    while step < input.shape[-1]:
        shifted = F.pad(input[..., :-step], (step, 0))
        input = input + gate * shifted
        gate = gate * F.pad(gate[..., :-step], (step, 0))
        step *= 2
    return input


@variant(_scan, "3,8:probability", "3,8", kind="Function")
class ReversedScan(torch.autograd.Function):
    """A gated recurrence whose backward pass is the recurrence in reverse"""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, input: Tensor) -> Tensor:
        states = _scan(gate, input)
        ctx.save_for_backward(gate, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        gate, states = ctx.saved_tensors
        later = torch.cat([gate[..., 1:], torch.zeros_like(gate[..., :1])], -1)
        grad_input = _scan(later.flip(-1), grad.flip(-1)).flip(-1)
        return grad_input * F.pad(states[..., :-1], (1, 0)), grad_input
