"""Attention in blocks, in other orders, and with a backward pass of its own."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant

T = TypeVar("T", bound=Callable[..., Tensor])
QKV = ("2,5,4", "2,7,4", "2,7,3")
SDPA = F.scaled_dot_product_attention


def in_float32(attention: T) -> T:
    """``attention`` with half precision computed in float32, as kernels do: scores overflow."""

    @functools.wraps(attention)
    def wide(query: Tensor, *others: Any, **options: Any) -> Tensor:
        to = torch.promote_types(query.dtype, torch.float32)
        tensors = [t.to(to) for t in (query, *others)]
        return attention(*tensors, **options).to(query.dtype)

    return wide  # type: ignore[return-value]


def _scale(query: Tensor) -> float:
    return 1 / math.sqrt(max(query.shape[-1], 1))


def _scores(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.transpose(-2, -1) * _scale(query)


@variant(SDPA, *QKV, kind="function")
@in_float32
def attention_online(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by an online softmax over blocks of keys"""
    highest = query.new_full((*query.shape[:-1], 1), -torch.inf)
    total = torch.zeros_like(highest)
    output = query.new_zeros(*query.shape[:-1], value.shape[-1])
    for keys, values in zip(key.split(3, -2), value.split(3, -2), strict=True):
        scores = _scores(query, keys)
        new = torch.maximum(highest, scores.amax(-1, keepdim=True).detach())
        weights, shrink = (scores - new).exp(), (highest - new).exp()
        total = total * shrink + weights.sum(-1, keepdim=True)
        output = output * shrink + weights @ values
        highest = new
    return output / total


@variant(SDPA, *QKV, kind="function")
@in_float32
def attention_by_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in blocks of queries"""
    return torch.cat([_scores(q, key).softmax(-1) @ value for q in query.split(2, -2)], -2)


@variant(SDPA, *QKV, kind="function")
@in_float32
def attention_two_pass(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention that takes the log-sum-exp first and exponentiates once"""
    scores = _scores(query, key)
    return (scores - scores.logsumexp(-1, keepdim=True)).exp() @ value


@variant(SDPA, "2,6,4", "2,6,4", "2,6,3", kind="function", call="is_causal=True")
@in_float32
def attention_causal(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Tensor:
    """Causal attention with a mask added to the scores"""
    mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device)
    scores = _scores(query, key)
    if is_causal:
        scores = scores.masked_fill(mask.triu(1), -torch.inf)
    return scores.softmax(-1) @ value


@variant(SDPA, "2,6,4", "2,6,4", "2,6,3", kind="function", call="is_causal=True")
@in_float32
def attention_row_by_row(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Tensor:
    """Causal attention, each query with the keys so far and nothing masked"""
    assert is_causal
    rows = [
        _scores(query[..., i : i + 1, :], key[..., : i + 1, :]).softmax(-1) @ value[..., : i + 1, :]
        for i in range(query.shape[-2])
    ]
    return torch.cat(rows, -2)


@variant(SDPA, *QKV, kind="Function")
class Recomputed(torch.autograd.Function):
    """Attention that keeps the log-sum-exp alone and computes its weights again, as flash does"""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        dtype = query.dtype
        query, key, value = (
            t.to(torch.promote_types(dtype, torch.float32)) for t in (query, key, value)
        )
        scores = _scores(query, key)
        total = scores.logsumexp(-1, keepdim=True)
        output = (scores - total).exp() @ value
        ctx.save_for_backward(query, key, value, output, total)
        return output.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        query, key, value, output, total = ctx.saved_tensors
        dtype, grad = grad.dtype, grad.to(query.dtype)
        weights = (_scores(query, key) - total).exp()
        inner = (grad * output).sum(-1, keepdim=True)
        grad_scores = weights * (grad @ value.transpose(-2, -1) - inner)
        grad_scores = grad_scores * _scale(query)
        grads = (
            grad_scores @ key,
            grad_scores.transpose(-2, -1) @ query,
            weights.transpose(-2, -1) @ grad,
        )
        return tuple(g.to(dtype) for g in grads)


@variant(torch.nn.MultiheadAttention, "2,5,6", "2,7,6", "2,7,6", init="6, 2, batch_first=True")
class Heads(torch.nn.MultiheadAttention):
    """MultiheadAttention as one einsum over heads, with weights averaged"""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, w, b).unflatten(-1, (self.num_heads, -1))
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        scores = torch.einsum("...qhd,...khd->...hqk", q, k) / math.sqrt(self.head_dim)
        shares = scores.softmax(-1)
        mixed = torch.einsum("...hqk,...khd->...qhd", shares, v).flatten(-2)
        return self.out_proj(mixed), shares.mean(-3)


def _linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key = F.elu(query) + 1, F.elu(key) + 1
    scores = query @ key.transpose(-2, -1)
    return scores @ value / scores.sum(-1, keepdim=True)


@variant(_linear_attention, *QKV, kind="function")
def attention_linear(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Linear attention multiplied from the right, so that no scores are made"""
    query, key = F.elu(query) + 1, F.elu(key) + 1
    state = key.transpose(-2, -1) @ value
    return query @ state / (query @ key.sum(-2, keepdim=True).transpose(-2, -1))


def _causal_linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1)).tril() @ value


@variant(_causal_linear_attention, "2,6,4", "2,6,4", "2,6,3", kind="function")
def attention_recurrent(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal linear attention as a recurrence over a state"""
    state = query.new_zeros(*query.shape[:-2], query.shape[-1], value.shape[-1])
    outputs = []
    for q, k, v in zip(query.unbind(-2), key.unbind(-2), value.unbind(-2), strict=True):
        state = state + k[..., :, None] * v[..., None, :]
        outputs.append((q[..., None, :] @ state)[..., 0, :])
    return torch.stack(outputs, -2)
