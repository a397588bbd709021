"""Layers in NumPy, as pairs of functions and as objects."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant

Array = NDArray[Any]


def _affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return x.flatten(1) @ w + b


def affine_backward(dout: Array, cache: Any) -> Any:
    """Gradients of an affine layer."""
    x, w, _ = cache
    dx = dout.dot(w.T).reshape(x.shape)
    return dx, x.reshape(len(x), -1).T.dot(dout), dout.sum(axis=0)


@variant(
    _affine, "4,2,3", "6,5", "5", kind="pair", arrays="numpy", backward=affine_backward
)  # fmt: skip
def affine_forward(x: Array, w: Array, b: Array) -> Any:
    """An affine layer as a pair of functions with a cache, in NumPy"""
    return x.reshape(len(x), -1).dot(w) + b, (x, w, b)


def dense_backward(dout: Array, cache: Any) -> Any:
    """Gradients of a dense layer, those of parameters in a list."""
    x, w = cache
    return dout @ w.T, [x.T @ dout, dout.sum(0)]


@variant(
    torch.nn.Linear, "4,5", init="", reference_init="5, 3", kind="pair", arrays="numpy",
    backward=dense_backward,
)  # fmt: skip
def dense_forward(x: Array, w: Array, b: Array) -> Any:
    """A dense layer in NumPy whose backward returns dx, [dw, db]"""
    return x @ w + b, (x, w)


def relu_backward(dout: Array, cache: Array) -> Array:
    """The gradient of ReLU."""
    return dout * (cache > 0)


@variant(torch.relu, "4,5", kind="pair", arrays="numpy", backward=relu_backward)
def relu_forward(x: Array) -> Any:
    """ReLU as a pair of functions, in NumPy"""
    return np.maximum(0, x), x


def _layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.layer_norm(x, gamma.shape, gamma, beta)


def layernorm_backward(dout: Array, cache: Any) -> Any:
    """Gradients of layer norm."""
    normal, gamma, scale = cache
    g = dout * gamma
    along = normal * (g * normal).mean(1, keepdims=True)
    dx = (g - g.mean(1, keepdims=True) - along) * scale
    return dx, (dout * normal).sum(0), dout.sum(0)


@variant(
    _layer_norm, "4,6", "6", "6", kind="pair", arrays="numpy", backward=layernorm_backward
)  # fmt: skip
def layernorm_forward(x: Array, gamma: Array, beta: Array) -> Any:
    """Layer norm as a pair of functions, in NumPy"""
    scale = 1 / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    normal = (x - x.mean(1, keepdims=True)) * scale
    return gamma * normal + beta, (normal, gamma, scale)


def _batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, gamma, beta, training=True)


def batchnorm_backward(dout: Array, cache: Any) -> Any:
    """Gradients of batch norm, a step of its graph at a time."""
    centered, deviation, gamma = cache
    size, normal = len(dout), centered / deviation
    dnormal = dout * gamma
    ddeviation = -(dnormal * centered).sum(0) / deviation**2
    dvariance = 0.5 * ddeviation / deviation
    dcentered = dnormal / deviation + 2 * centered * dvariance / size
    return dcentered - dcentered.sum(0) / size, (dout * normal).sum(0), dout.sum(0)


@variant(
    _batch_norm, "5,4", "4", "4", kind="pair", arrays="numpy", backward=batchnorm_backward
)  # fmt: skip
def batchnorm_forward(x: Array, gamma: Array, beta: Array) -> Any:
    """Batch norm by its graph of steps, in NumPy"""
    centered = x - x.mean(0)
    deviation = np.sqrt((centered**2).mean(0) + 1e-5)
    return gamma * centered / deviation + beta, (centered, deviation, gamma)


def _patches(x: Array, rows: int, columns: int) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(
        *windows.shape[:1], windows.shape[2], windows.shape[3], -1
    )


def conv_backward(dout: Array, cache: Any) -> Any:
    """Gradients of a convolution by im2col."""
    x, w, patches = cache
    count, _, rows, columns = w.shape
    d = dout.transpose(0, 2, 3, 1)
    dw = np.einsum("nijo,nijp->op", d, patches).reshape(w.shape)
    dpatches = (d @ w.reshape(count, -1)).reshape(*d.shape[:3], *w.shape[1:])
    dx = np.zeros_like(x)
    for i in range(d.shape[1]):
        for j in range(d.shape[2]):
            dx[:, :, i : i + rows, j : j + columns] += dpatches[:, i, j]
    return dx, dw, d.sum((0, 1, 2))


@variant(
    F.conv2d, "3,2,5,6", "4,2,3,3", "4", kind="pair", arrays="numpy", backward=conv_backward
)  # fmt: skip
def conv_forward(x: Array, w: Array, b: Array) -> Any:
    """A convolution by im2col, in NumPy"""
    patches = _patches(x, *w.shape[2:])
    out = patches @ w.reshape(len(w), -1).T + b
    return out.transpose(0, 3, 1, 2), (x, w, patches)


def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)


def max_pool_backward(dout: Array, cache: Any) -> Array:
    """The gradient of max pooling, added where the maximum is."""
    shape, place = cache
    blocks = np.zeros((*dout.shape, 4), dout.dtype)
    np.put_along_axis(blocks, place[..., None], dout[..., None], axis=-1)
    n, c, i, j = dout.shape
    dx = np.zeros(shape, dout.dtype)
    tiles = blocks.reshape(n, c, i, j, 2, 2).transpose(0, 1, 2, 4, 3, 5)
    dx[:, :, : 2 * i, : 2 * j] = tiles.reshape(n, c, 2 * i, 2 * j)
    return dx


@variant(_max_pool, "3,2,6,4", kind="pair", arrays="numpy", backward=max_pool_backward)
def max_pool_forward(x: Array) -> Any:
    """Max pooling by argmax, in NumPy"""
    n, c, h, w = x.shape
    i, j = h // 2, w // 2
    tiles = x[:, :, : 2 * i, : 2 * j].reshape(n, c, i, 2, j, 2).transpose(0, 1, 2, 4, 3, 5)
    tiles = tiles.reshape(n, c, i, j, 4)
    return tiles.max(-1), (x.shape, tiles.argmax(-1))


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def attention_backward(dout: Array, cache: Any) -> Any:
    """Gradients of attention."""
    q, k, v, shares = cache
    dshares = dout @ v.swapaxes(-1, -2)
    dscores = shares * (dshares - (dshares * shares).sum(-1, keepdims=True))
    dscores = dscores / math.sqrt(q.shape[-1])
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, shares.swapaxes(-1, -2) @ dout


@variant(
    _attention, "2,5,4", "2,7,4", "2,7,3", kind="pair", arrays="numpy",
    backward=attention_backward,
)  # fmt: skip
def attention_forward(q: Array, k: Array, v: Array) -> Any:
    """Attention as a pair of functions, in NumPy"""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares = shares / shares.sum(-1, keepdims=True)
    return shares @ v, (q, k, v, shares)


def rnn_step_backward(dnext_h: Array, cache: Any) -> Any:
    """Gradients of a step of an RNN."""
    x, h, w, u, y = cache
    d = dnext_h * (1 - y * y)
    return d @ w.T, d @ u.T, x.T @ d, h.T @ d, d.sum(0)


def _rnn_step(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
    return torch.tanh(x @ w + h @ u + b)


@variant(
    _rnn_step, "4,3", "4,5", "3,5", "5,5", "5", kind="pair", arrays="numpy",
    backward=rnn_step_backward,
)  # fmt: skip
def rnn_step_forward(x: Array, prev_h: Array, w: Array, u: Array, b: Array) -> Any:
    """A step of an RNN as a pair of functions, in NumPy"""
    y = np.tanh(x @ w + prev_h @ u + b)
    return y, (x, prev_h, w, u, y)


def word_embedding_backward(dout: Array, cache: Any) -> Any:
    """The gradient of an embedding's rows."""
    x, shape = cache
    dw = np.zeros(shape, dout.dtype)
    np.add.at(dw, x, dout)
    return None, dw


@variant(
    F.embedding, "4,3:long:7", "7,5", kind="pair", arrays="numpy",
    backward=word_embedding_backward,
)  # fmt: skip
def word_embedding_forward(x: Array, w: Array) -> Any:
    """An embedding by np.add.at, in NumPy"""
    return w[x], (x, w.shape)


@variant(F.cross_entropy, "5,4", "5:long:4", kind="with gradient", arrays="numpy")
def softmax_loss(x: Array, y: Array) -> Any:
    """Softmax loss that returns a loss and its gradient, in NumPy"""
    shifted = x - x.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    dx = np.exp(logs)
    dx[np.arange(len(x)), y] -= 1
    return -logs[np.arange(len(x)), y].mean(), dx / len(x)


def _svm(x: Tensor, y: Tensor) -> Tensor:
    picked = x.gather(1, y[:, None])
    return ((x - picked + 1).clamp(min=0).sum(1) - 1).mean()


@variant(_svm, "5,4", "5:long:4", kind="with gradient", arrays="numpy")
def svm_loss(x: Array, y: Array) -> Any:
    """Multi-class hinge loss that returns a loss and its gradient, in NumPy"""
    rows = np.arange(len(x))
    margins = np.maximum(0, x - x[rows, y][:, None] + 1)
    margins[rows, y] = 0
    dx = (margins > 0).astype(x.dtype)
    dx[rows, y] -= dx.sum(axis=1)
    return margins.sum() / len(x), dx / len(x)


def sigmoid_derivative(x: Array) -> Any:
    """The derivative at x."""
    s = sigmoid(x)
    return s * (1 - s)


def sigmoid(x: Array) -> Any:
    """An elementwise sigmoid and its derivative, in NumPy"""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


variant(
    torch.sigmoid, "4,5", kind="derivative", arrays="numpy", backward=sigmoid_derivative
)(sigmoid)  # fmt: skip


def swish_derivative(x: float) -> float:
    """The derivative at x."""
    s = 1 / (1 + math.exp(-x))
    return s + x * s * (1 - s)


@variant(F.silu, "4,5", kind="derivative", arrays="float", backward=swish_derivative)
def swish(x: float) -> float:
    """SiLU of one number, by Python's math, and its derivative"""
    return x / (1 + math.exp(-x))


class Dense:
    """A dense layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.w, self.b = np.random.randn(inputs, outputs), np.zeros(outputs)
        self.dw, self.db = np.zeros_like(self.w), np.zeros_like(self.b)

    def forward(self, x: Array) -> Array:
        """Keep the input."""
        self.x = x
        return x @ self.w + self.b

    def backward(self, dout: Array) -> Array:
        """Overwrite the gradients."""
        self.dw, self.db = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.w.T

    def parameters(self) -> Any:
        """Values and gradients."""
        return [(self.w, self.dw), (self.b, self.db)]


@variant(
    torch.nn.Linear, "4,5", init="5, 3", kind="object", arrays="numpy",
    held=lambda made: made.parameters(),
)  # fmt: skip
class DenseObject(Dense):
    """A dense object in NumPy that binds its gradients anew"""


@variant(
    torch.nn.Linear, "4,5", init="5, 3", kind="object", arrays="numpy",
    held=lambda made: [(made.params[n], made.grads[n]) for n in ("W", "b")],
)  # fmt: skip
class DictionaryObject:
    """A dense object in NumPy with dictionaries params and grads"""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.params = {"W": np.random.randn(inputs, outputs), "b": np.zeros((1, outputs))}
        self.grads = {name: np.zeros_like(value) for name, value in self.params.items()}

    def forward(self, x: Array) -> Array:
        """Keep the input."""
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, grad: Array) -> Array:
        """Add to the gradients."""
        self.grads["W"] += self.x.T @ grad
        self.grads["b"] += grad.sum(axis=0, keepdims=True)
        return grad @ self.params["W"].T


@variant(torch.nn.Softmax, "4,5", init="", reference_init="dim=-1", kind="object", arrays="numpy")
class SoftmaxObject:
    """A softmax object in NumPy"""

    def forward(self, x: Array) -> Array:
        """Keep the output."""
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.y = e / e.sum(axis=-1, keepdims=True)
        return self.y

    def backward(self, grad: Array) -> Array:
        """Of the output."""
        return self.y * (grad - (grad * self.y).sum(axis=-1, keepdims=True))
