"""Layers and losses by the conventions of frameworks that students write."""

import math
from typing import Any

import torch
from torch import Tensor, empty
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.linear import _MLP
from bench.variants.variant import variant

LINEAR = torch.nn.Linear


def _matrix(*shape: int) -> Tensor:
    return empty(*shape).normal_()


class PairLinear:
    """The linear layer that others here differ from in one thing: one input is kept."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.w, self.b = _matrix(outputs, inputs), _matrix(outputs)
        self.gw, self.gb = torch.zeros_like(self.w), torch.zeros_like(self.b)

    def forward(self, x: Tensor) -> Tensor:
        """Return x w.T + b."""
        self.x = x
        return x @ self.w.t() + self.b

    def backward(self, grad: Tensor) -> Tensor:
        """Add to the gradients."""
        self.gw += grad.t() @ self.x
        self.gb += grad.sum(0)
        return grad @ self.w

    def param(self) -> Any:
        """Values and gradients."""
        return [(self.w, self.gw), (self.b, self.gb)]


def pairs(made: Any) -> Any:
    """What ``param`` returns."""
    return made.param()


def by_name(made: Any) -> Any:
    """The attributes w, gw, b, gb."""
    return [(made.w, made.gw), (made.b, made.gb)]


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=pairs)
class ListOfPairs(PairLinear):
    """A linear object whose param() is a list of values and gradients"""


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=pairs)
class Overwrites(PairLinear):
    """A linear object that overwrites its gradients"""

    def backward(self, grad: Tensor) -> Tensor:
        self.gw.copy_(grad.t() @ self.x)
        self.gb.copy_(grad.sum(0))
        return grad @ self.w


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=pairs)
class Rebinds(PairLinear):
    """A linear object that binds its gradients anew"""

    def backward(self, grad: Tensor) -> Tensor:
        self.gw = self.gw + grad.t() @ self.x
        self.gb = self.gb + grad.sum(0)
        return grad @ self.w


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=by_name)
class PropertyOfPairs(PairLinear):
    """A linear object whose params is a property, a tuple of pairs"""

    param = None  # type: ignore[assignment]

    @property
    def params(self) -> Any:
        """Values and gradients."""
        return ((self.w, self.gw), (self.b, self.gb))


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=by_name)
class Flat(PairLinear):
    """A linear object whose param() is flat: weight, bias and their gradients"""

    def param(self) -> Any:
        return [self.w, self.b, self.gw, self.gb]


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=by_name)
class Apart(PairLinear):
    """A linear object with values in parameters() and gradients in gradients()"""

    def parameters(self) -> list[Tensor]:
        """Values."""
        return [self.w, self.b]

    def gradients(self) -> list[Tensor]:
        """Gradients."""
        return [self.gw, self.gb]


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=by_name)
class ByModule(PairLinear):
    """A linear object whose params are a dictionary from names to [value, gradient]"""

    param = None  # type: ignore[assignment]

    def params(self) -> Any:
        """Values and gradients."""
        return {"weight": [self.w, self.gw], "bias": [self.b, self.gb]}


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=by_name)
class ClonesHandedOut(PairLinear):
    """A linear object that hands out clones of its gradients"""

    def param(self) -> Any:
        return [(self.w, self.gw.clone()), (self.b, self.gb.clone())]


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=by_name)
class StackOfInputs(PairLinear):
    """A linear object that keeps a stack of inputs"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.kept.append(x)
        return super().forward(x)

    def backward(self, grad: Tensor) -> Tensor:
        self.x = self.kept.pop()
        return super().backward(grad)


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=pairs)
class InOut(PairLinear):
    """A linear object with its weight as (in, out)"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.w, self.gw = _matrix(inputs, outputs), torch.zeros(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x @ self.w + self.b

    def backward(self, grad: Tensor) -> Tensor:
        self.gw += self.x.t() @ grad
        self.gb += grad.sum(0)
        return grad @ self.w.t()


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=pairs)
class BiasAsRow(PairLinear):
    """A linear object with its bias as (1, out), summed by a product with ones"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.b, self.gb = _matrix(1, outputs), torch.zeros(1, outputs)

    def backward(self, grad: Tensor) -> Tensor:
        self.gw += grad.t() @ self.x
        self.gb += empty(1, len(grad)).fill_(1) @ grad
        return grad @ self.w


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=pairs, columns=True)
class SamplesInColumns(PairLinear):
    """A linear object with samples in columns and its bias as (out, 1)"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.b, self.gb = _matrix(outputs, 1), torch.zeros(outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return self.w @ x + self.b

    def backward(self, grad: Tensor) -> Tensor:
        self.gw += grad @ self.x.t()
        self.gb += grad.sum(1, keepdim=True)
        return self.w.t() @ grad


def _parts(made: Any) -> Any:
    w, g = made.param()[0]
    return [(w[:, :-1], g[:, :-1]), (w[:, -1], g[:, -1])]


@variant(LINEAR, "4,5", init="5, 3", kind="object", held=_parts)
class OneTensor(PairLinear):
    """A linear object with its bias as the last column of its weight"""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.w = _matrix(outputs, inputs + 1)
        self.gw = torch.zeros_like(self.w)

    def forward(self, x: Tensor) -> Tensor:
        self.x = torch.cat([x, empty(len(x), 1).fill_(1)], 1)
        return self.x @ self.w.t()

    def backward(self, grad: Tensor) -> Tensor:
        self.gw += grad.t() @ self.x
        return grad @ self.w[:, :-1]

    def param(self) -> Any:
        return [(self.w, self.gw)]


@variant(
    LINEAR, "4,5", init="5, 3", kind="object", held=pairs, dtypes=("float32",)
)  # fmt: skip
class Floats(PairLinear):
    """A linear object in float32 alone"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.w, self.b, self.gw, self.gb = (
            t.float() for t in (self.w, self.b, self.gw, self.gb)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


class Weight:
    """A parameter as an object."""

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self.grad = torch.zeros_like(value)


@variant(
    LINEAR, "4,5", init="5, 3", kind="object",
    held=lambda made: [(p.value, p.grad) for p in made.parameters()],
)  # fmt: skip
class ObjectsWithValue:
    """A linear object whose parameters are objects with value and grad"""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.weight = Weight(_matrix(outputs, inputs))
        self.bias = Weight(_matrix(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the input."""
        self.x = x
        return x @ self.weight.value.t() + self.bias.value

    def backward(self, grad_output: Tensor) -> Tensor:
        """Add to the gradients."""
        self.weight.grad = self.weight.grad + grad_output.t() @ self.x
        self.bias.grad = self.bias.grad + grad_output.sum(0)
        return grad_output @ self.weight.value

    def parameters(self) -> list[Weight]:
        """Both."""
        return [self.weight, self.bias]


@variant(
    LINEAR, "4,5", init="3", reference_init="5, 3", kind="object",
    held=lambda made: [(made.params[n], made.grads[n]) for n in ("w", "b")],
)  # fmt: skip
class MadeByTheFirstCall:
    """A linear object whose dictionaries params and grads are made by its first call"""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs
        self.params: dict[str, Tensor] = {}
        self.grads: dict[str, Tensor] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Make the parameters first, if there are none."""
        if not self.params:
            self.params["w"] = _matrix(inputs.shape[1], self.outputs)
            self.params["b"] = torch.zeros(self.outputs)
        self.inputs = inputs
        return inputs @ self.params["w"] + self.params["b"]

    def backward(self, grad: Tensor) -> Tensor:
        """Overwrite the gradients."""
        self.grads["w"] = self.inputs.t() @ grad
        self.grads["b"] = grad.sum(0)
        return grad @ self.params["w"].t()


class Layers:
    """Layers one after another."""

    def __init__(self, *layers: Any) -> None:
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """In order."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad: Tensor) -> Tensor:
        """In reverse."""
        for layer in reversed(self.layers):
            grad = layer.backward(grad)
        return grad

    def param(self) -> Any:
        """Of all layers."""
        return [pair for layer in self.layers for pair in layer.param()]


@variant(torch.nn.Tanh, "4,5", kind="object")
class TanhOfOutput:
    """A tanh object that keeps its output, without parameters"""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the output."""
        self.y = x.tanh()
        return self.y

    def backward(self, grad: Tensor) -> Tensor:
        """Of the output."""
        return grad * (1 - self.y**2)

    def param(self) -> list[Any]:
        """None."""
        return []


@variant(torch.nn.ReLU, "4,5", kind="object")
class ReLUByMask:
    """A ReLU object that multiplies by a mask, also where the input is zero"""

    def forward(self, *input: Tensor) -> Tensor:
        """Keep the mask."""
        self.mask = (input[0] >= 0).to(input[0].dtype)
        return input[0] * self.mask

    def backward(self, *gradwrtoutput: Tensor) -> Tensor:
        """Times the mask."""
        return gradwrtoutput[0] * self.mask

    def param(self) -> list[Any]:
        """None."""
        return []


@variant(torch.nn.Sigmoid, "4,5", kind="object")
class SigmoidInPlace:
    """A sigmoid object whose backward pass works in a buffer of its own"""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the output."""
        self.y = torch.sigmoid(x)
        return self.y.clone()

    def backward(self, grad: Tensor) -> Tensor:
        """Reuse one buffer."""
        buffer = torch.empty_like(self.y)
        torch.mul(self.y, 1 - self.y, out=buffer)
        return buffer.mul_(grad)


@variant(_MLP, "4,5", init="5, 6, 3", kind="object", held=pairs)
class Network(Layers):
    """A network of three objects, whose parameters are listed one after another"""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__(PairLinear(inputs, hidden), TanhOfOutput(), PairLinear(hidden, outputs))


@variant(torch.nn.Conv2d, "3,2,6,7", init="2, 4, 3", kind="object", held=pairs)
class ConvolutionObject:
    """A convolution object by unfold and fold"""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        self.w, self.b = _matrix(outputs, inputs, kernel, kernel), _matrix(outputs)
        self.gw, self.gb = torch.zeros_like(self.w), torch.zeros_like(self.b)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the patches."""
        self.size, kernel = x.shape[2:], self.w.shape[-1]
        self.patches = F.unfold(x, kernel)
        output = self.w.flatten(1) @ self.patches + self.b[:, None]
        return output.reshape(len(x), -1, *(size - kernel + 1 for size in self.size))

    def backward(self, grad: Tensor) -> Tensor:
        """Fold the gradients of the patches."""
        g = grad.flatten(2)
        self.gw += torch.einsum("nol,npl->op", g, self.patches).reshape(self.w.shape)
        self.gb += g.sum((0, 2))
        return F.fold(self.w.flatten(1).t() @ g, self.size, self.w.shape[-1])

    def param(self) -> Any:
        """Values and gradients."""
        return [(self.w, self.gw), (self.b, self.gb)]


@variant(
    torch.nn.Embedding, "4,3:long:7", init="7, 5", kind="object",
    held=lambda made: [(made.weight, made.grad)],
)  # fmt: skip
class EmbeddingObject:
    """An embedding object that adds to the rows of its gradient"""

    def __init__(self, rows: int, size: int) -> None:
        self.weight, self.grad = _matrix(rows, size), torch.zeros(rows, size)

    def forward(self, index: Tensor) -> Tensor:
        """Keep the places."""
        self.index = index
        return self.weight[index]

    def backward(self, grad: Tensor) -> None:
        """Give no gradient of places."""
        size = self.weight.shape[1]
        self.grad.index_add_(0, self.index.reshape(-1), grad.reshape(-1, size))

    def params(self) -> Any:
        """Value and gradient."""
        return [[self.weight, self.grad]]


@variant(torch.nn.LayerNorm, "4,6", init="6", kind="object", held=pairs)
class LayerNormObject:
    """A layer norm object with the three terms of its gradient written out"""

    def __init__(self, size: int) -> None:
        self.w, self.b = torch.ones(size), torch.zeros(size)
        self.gw, self.gb = torch.zeros(size), torch.zeros(size)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the normalized input."""
        centered = x - x.mean(1, keepdim=True)
        self.scale = 1 / (centered.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
        self.normal = centered * self.scale
        return self.normal * self.w + self.b

    def backward(self, grad: Tensor) -> Tensor:
        """The gradient less its mean and less its share along the normalized input."""
        self.gw += (grad * self.normal).sum(0)
        self.gb += grad.sum(0)
        g = grad * self.w
        along = (g * self.normal).mean(1, keepdim=True) * self.normal
        return self.scale * (g - g.mean(1, keepdim=True) - along)

    def param(self) -> Any:
        """Values and gradients."""
        return [(self.w, self.gw), (self.b, self.gb)]


@variant(torch.nn.MSELoss, "4,3", "4,3:float:constant", kind="loss")
class MeanSquare:
    """An MSE object, the mean over everything, whose backward takes nothing"""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        """Keep both."""
        self.p, self.t = p, t
        return (p - t).pow(2).mean()

    def backward(self) -> Tensor:
        """Of the prediction."""
        return 2 * (self.p - self.t) / self.p.numel()


@variant(torch.nn.MSELoss, "4,3", "4,3:float:constant", kind="loss")
class PythonFloat(MeanSquare):
    """An MSE object that returns a Python float"""

    def forward(self, p: Tensor, t: Tensor) -> float:  # type: ignore[override]
        return super().forward(p, t).item()


@variant(
    torch.nn.MSELoss, "4,3", "4,3:float:constant", init="", reference_init="reduction='sum'",
    kind="loss of inputs",
)  # fmt: skip
class SumOfSquares:
    """A squared-error object, a sum, whose backward takes prediction and target again"""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Keep nothing."""
        return (prediction - target).pow(2).sum()

    def backward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Of the prediction."""
        return 2 * (prediction - target)


def _mse_per_sample(p: Tensor, t: Tensor) -> Tensor:
    return (p - t).pow(2).sum() / len(p)


@variant(_mse_per_sample, "4,3", "4,3:float:constant", kind="loss")
class PerSample:
    """A squared-error object, the mean over samples alone"""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        """Keep the difference."""
        self.difference = p - t
        return self.difference.pow(2).sum() / len(p)

    def backward(self) -> Tensor:
        """Of the prediction."""
        return 2 * self.difference / len(self.difference)


@variant(torch.nn.MSELoss, "4,3", "4,3:float:constant", kind="loss", order=(1, 0))
class TargetFirst:
    """An MSE object that takes the target first"""

    def forward(self, target: Tensor, prediction: Tensor) -> Tensor:
        """Keep the difference."""
        self.difference = prediction - target
        return self.difference.square().mean()

    def backward(self) -> Tensor:
        """Of the prediction."""
        return 2 * self.difference / self.difference.numel()


@variant(torch.nn.CrossEntropyLoss, "5,4", "5:long:4", kind="loss")
class CrossEntropyObject:
    """A cross-entropy object whose gradient is softmax minus one-hot over N"""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Keep the logarithms."""
        self.logs, self.y = x.log_softmax(1), y
        return -self.logs[torch.arange(len(y)), y].mean()

    def backward(self) -> Tensor:
        """Of the logits."""
        grad = self.logs.exp()
        grad[torch.arange(len(self.y)), self.y] -= 1
        return grad / len(self.y)


def _cross_entropy_of_one_hot(x: Tensor, t: Tensor) -> Tensor:
    return -(t * x.log_softmax(1)).sum(1).mean()


@variant(_cross_entropy_of_one_hot, "5,4", "5,4:binary:constant", kind="loss")
class OneHotCrossEntropy:
    """A cross-entropy object with a target for each class"""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        """Keep the softmax and the target."""
        self.share, self.t = p.softmax(1), t
        return -(t * (p - p.logsumexp(1, keepdim=True))).sum() / len(p)

    def backward(self) -> Tensor:
        """Of the logits."""
        return (self.share * self.t.sum(1, keepdim=True) - self.t) / len(self.t)


@variant(torch.nn.BCEWithLogitsLoss, "5,4", "5,4:binary:constant", kind="loss")
class BinaryCrossEntropyObject:
    """A BCE object of logits"""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        """Keep the probabilities."""
        self.s, self.t = torch.sigmoid(p), t
        return (F.softplus(p) - p * t).mean()

    def backward(self) -> Tensor:
        """Of the logits."""
        return (self.s - self.t) / self.t.numel()


@variant(torch.nn.GELU, "4,5", kind="object")
class GELUObject:
    """A GELU object by the normal distribution and its density"""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the input."""
        self.x = x
        return x * self.distribution(x)

    def distribution(self, x: Tensor) -> Tensor:
        """Of the normal distribution."""
        return 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def backward(self, grad: Tensor) -> Tensor:
        """The distribution plus x times the density."""
        density = torch.exp(-self.x * self.x / 2) / math.sqrt(2 * math.pi)
        return grad * (self.distribution(self.x) + self.x * density)
