"""Examples: what one check draws and does, and the draws themselves.

An example is a few plain values, so it can be written down, shrunk and run again. All numbers are
drawn in float32 and rounded to the example's dtype, so that float64 can compute with the very
same.
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from minifw.testing.case import Case, Domain, Input

__all__ = [
    "COTANGENTS",
    "DTYPES",
    "LAYOUTS",
    "SPECIAL",
    "Example",
    "copied",
    "described",
    "draw_inputs",
    "lay_out",
    "parse_input",
]

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Put among the entries of the first input; of "largest" and "subnormal", each dtype has its own.
SPECIAL = (
    "nan", "infinities", "signed zeros", "subnormal", "largest", "ties", "positive", "edges",
)  # fmt: skip

# Keyword arguments of torch.nn's constructors that are sizes, as the shapes of inputs.
SIZE_OPTIONS = {
    "in_features", "out_features", "in_channels", "out_channels", "num_features", "num_channels",
    "normalized_shape", "input_size", "hidden_size", "num_embeddings", "embedding_dim", "embed_dim",
    "groups",  # of a convolution by channel, which are as many as its channels
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """What to draw, and what to do with it.

    Attributes:
        steps: name of a pass in :data:`minifw.testing.passes.PASSES`.
        dtype: of parameters, inputs and cotangents; a key of :data:`DTYPES`.
        layout: strides of inputs and cotangents; a key of :data:`LAYOUTS`.
        laid_out: place of the one input that alone has them, if not all, and the cotangents, do.
        cotangent: what the gradients of the outputs are; a key of :data:`COTANGENTS`.
        cotangent_layout: their strides, if others than those of the inputs.
        parameter_layout: strides of the parameters; "" for those that the subject made.
        special: values among the normally distributed ones; one of :data:`SPECIAL`, or "".
        values: numbers that inputs are drawn from, in place of the normally distributed ones.
        parameters: "random", drawn from a normal distribution; "initial", the reference's own;
            "zero", all 0.
        batch: size of the leading dimension of each input; None for that of the row.
        ignored: a number put among the indices of each input of indices; None for none.
        rank: leading dimensions of size 2 put before each input, or -1 for the first left out.
        trailing: dimensions of size 2 put behind those of each input.
        scalar: whether every input is zero-dimensional.
        scale: factor of the inputs that are real numbers.
        shift: what is added to them.
        sizes: replacements of the sizes in input shapes and constructor arguments, by size.
        shrink: factor of the constructor's arguments that are floats.
        other_mode: whether to run in the mode that the row does not name.
        seed: of every draw.
    """

    steps: str = "once"
    dtype: str = "float64"
    layout: str = "contiguous"
    laid_out: int | None = None
    cotangent: str = "random"
    cotangent_layout: str = ""
    parameter_layout: str = ""
    special: str = ""
    values: tuple[float, ...] = ()
    parameters: str = "random"
    batch: int | None = None
    ignored: int | None = None
    rank: int = 0
    trailing: int = 0
    scalar: bool = False
    scale: float = 1.0
    shift: float = 0.0
    sizes: Mapping[int, int] = dataclasses.field(default_factory=dict)
    shrink: float = 1.0
    other_mode: bool = False
    seed: int = 0

    def __str__(self) -> str:
        """The fields that are not as by default, as JSON."""
        plain = Example()
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.dumps({k: v for k, v in values.items() if v != getattr(plain, k)})

    @classmethod
    def parse(cls, text: str) -> "Example":
        """The inverse of ``str``.

        Raises:
            ValueError: the text is not JSON of known fields.
        """
        try:
            values = json.loads(text)
            sizes = {int(old): int(new) for old, new in values.pop("sizes", {}).items()}
            numbers = tuple(map(float, values.pop("values", ())))
            example = cls(**values, values=numbers, sizes=sizes)
            layouts = {example.layout, example.cotangent_layout or "contiguous"}
            layouts |= {example.parameter_layout or "contiguous"}
            if example.dtype not in DTYPES or not layouts <= LAYOUTS.keys():
                raise ValueError
            return example
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"expected an example such as {cls(seed=1)}, got {text!r}") from error

    def resize(self, value: Any) -> Any:
        """A constructor argument with its sizes replaced and its floats shrunk."""
        if isinstance(value, Case):
            return replace(
                value,
                arguments=self.resize(value.arguments),
                options=self.resize_options(value.options),
            )
        if isinstance(value, (tuple, list)):
            return type(value)(self.resize(part) for part in value)
        if isinstance(value, int) and not isinstance(value, bool):
            return self.sizes.get(value, value)
        if isinstance(value, float):
            return value * self.shrink
        if isinstance(value, Tensor):
            shape = self.resize(tuple(value.shape))
            return value if shape == value.shape else value.new_ones(shape)
        return value

    def resize_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments: as :meth:`resize`, but whole numbers, which may be places, stay."""
        return {
            name: self.resize(value)
            if name in SIZE_OPTIONS or isinstance(value, (float, Tensor))
            else value
            for name, value in options.items()
        }

    def shape(self, spec: Input) -> tuple[int, ...]:
        """The shape of an input."""
        if self.scalar:
            return ()
        shape: tuple[int, ...] = self.resize(spec.shape)
        if self.batch is not None and shape:
            shape = (self.batch, *shape[1:])
        shape = (2,) * self.rank + shape if self.rank >= 0 else shape[1:]
        return shape + (2,) * self.trailing


def ordinary(example: Example) -> Example:
    """The same example, its numbers of a size that float16 can square and add up.

    PyTorch's kernels compute sums of squares in float32; a rule of several operations in float16
    overflows above 256, which is no mistake in it.
    """
    if example.dtype != "float16":
        return example
    return replace(example, scale=min(max(example.scale, 0.1), 10.0))


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def _with_offset(tensor: Tensor) -> Tensor:
    return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)


LAYOUTS = {
    "contiguous": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.transpose(0, -1).contiguous().transpose(0, -1),
    "strided": lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
    "expanded": lambda tensor: tensor.narrow(0, 0, min(len(tensor), 1)).expand_as(tensor),
    "channels last": _channels_last,
    # The last stride is 1, the pitch of the rows is another than their length.
    "columns": lambda tensor: torch.cat([tensor, tensor], -1)[..., : tensor.shape[-1]],
    "offset": _with_offset,
}

# The gradients of the outputs, made of normally distributed numbers.
COTANGENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "random": lambda tensor: tensor,
    # One number of stride 0, which is what .sum().backward() sends, but for its value.
    "scalar": lambda tensor: tensor.new_full((), 0.75).expand(tensor.shape),
    "zeros": torch.zeros_like,
    "one row": lambda tensor: (
        torch.cat([tensor[:1], torch.zeros_like(tensor[1:])]) if tensor.dim() else tensor
    ),
    "last row": lambda tensor: (
        torch.cat([torch.zeros_like(tensor[:-1]), tensor[-1:]]) if tensor.dim() else tensor
    ),
    "large": lambda tensor: tensor * 1e4,
    "small": lambda tensor: tensor * 1e-5,
    "positive": torch.abs,
}


def lay_out(tensor: Tensor, layout: str) -> Tensor:
    """``tensor`` with other strides; "expanded" repeats its first row."""
    return LAYOUTS[layout](tensor) if tensor.dim() else tensor


def copied(value: Any) -> Any:
    """A tensor of the same strides, also where they overlap; anything else as it is."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return value
    storage = value.untyped_storage().clone()  # type: ignore[no-untyped-call]
    copy = torch.empty(0, dtype=value.dtype, device=value.device)
    return copy.set_(storage, value.storage_offset(), value.shape, value.stride())


def _special(name: str, dtype: torch.dtype) -> list[float]:
    limits = torch.finfo(dtype)
    return {
        "nan": [torch.nan],
        "infinities": [torch.inf, -torch.inf],
        "signed zeros": [0.0, -0.0],
        "subnormal": [limits.tiny / 4, -limits.tiny / 2],
        "largest": [limits.max, -limits.max],
        "ties": [0.0, 1.0, -1.0, 2.0],
    }[name]


def draw_inputs(
    example: Example, specs: tuple[Input, ...], generator: Generator, device: str
) -> tuple[Any, ...]:
    """Draw one set of inputs."""
    if specs and specs[0].made is not None:
        return made_inputs(specs[0].made, generator, DTYPES[example.dtype], device)
    dtype = DTYPES[example.dtype]
    drawn: list[Tensor] = []
    for place, spec in enumerate(specs):
        values = _draw(spec, example, generator)
        if values.is_floating_point():
            values = values.to(dtype)
        if example.special == "positive":
            values = values.abs()
        elif example.special == "edges":
            values = _at_edges(spec, values, generator)
        elif example.special == "ties":
            if spec.domain == "real":
                # Equal numbers only at 0, which the control leaves there: elsewhere it would move
                # them apart, and allow the jump of the derivative for an error.
                values = (values / 2).round().clamp(-1, 1) * (1 + place)
            elif spec.domain == "binary":  # and inputs that are certain, and right
                drawn[0] = lay_out(torch.where(values == 1, values, drawn[0]), example.layout)
        elif example.special and place == 0 and spec.domain == "real":
            flat = values.view(-1)
            for index, value in zip(
                torch.randperm(len(flat), generator=generator).tolist(),
                2 * _special(example.special, dtype),
                strict=False,
            ):
                flat[index] = value
        alone = example.laid_out is not None and example.laid_out != place
        drawn.append(lay_out(values.to(device), "contiguous" if alone else example.layout))
    return tuple(drawn)


def _draw(spec: Input, example: Example, generator: Generator) -> Tensor:
    """One input in its domain; see :class:`~minifw.testing.case.Input`."""
    shape, classes = example.shape(spec), example.resize(spec.classes)
    if spec.domain in ("index", "onehot"):
        if spec.domain == "onehot":
            place = len(shape) - 1 - example.trailing  # of the classes
            rest = shape[:place] + shape[place + 1 :]
            labels = torch.randint(classes, rest, generator=generator)
            return one_hot(labels, classes).movedim(-1, place).float()
        labels = torch.randint(classes, shape, generator=generator)
        if example.ignored is not None and labels.numel():
            some = torch.rand(shape, generator=generator) < 0.4
            some.view(-1)[0], some.view(-1)[-1] = True, labels.numel() == 1  # but not all
            labels = torch.where(some, example.ignored, labels)
        return labels
    if spec.domain == "bool":
        return torch.rand(shape, generator=generator) < 0.5
    if spec.domain == "permutation":
        rows = torch.rand(shape, generator=generator)
        return rows.argsort(-1)
    if spec.domain == "real" and example.values:
        return torch.tensor(example.values)[
            torch.randint(len(example.values), shape, generator=generator)
        ]
    if spec.domain in ("real", "positive", "sorted", "softmax"):
        values = torch.randn(shape, generator=generator) * example.scale + example.shift
        if spec.domain == "positive":
            return values.abs() + 0.05
        if spec.domain == "sorted":
            return values.sort(-1).values if values.dim() else values
        return values.softmax(-1) if spec.domain == "softmax" and values.dim() else values
    values = torch.rand(shape, generator=generator)
    # Away from 0 and 1, where the derivative of a logarithm drowns every other entry.
    return values.round() if spec.domain == "binary" else 0.05 + 0.9 * values


def _at_edges(spec: Input, values: Tensor, generator: Generator) -> Tensor:
    """Values at the edges of their domain: certain probabilities, one class for all samples."""
    if spec.domain == "probability":
        rounded = torch.rand(values.shape, generator=generator) < 0.7
        return torch.where(rounded, values.round(), values)
    if spec.domain == "index" and values.dim():
        return values[..., :1].expand_as(values)
    return values


def made_inputs(
    make: Callable[..., Any], generator: Generator, dtype: torch.dtype, device: str
) -> tuple[Any, ...]:
    """Inputs that a function of one's own makes, in a dtype.

    Raises:
        ValueError: it does not return tensors.
    """
    try:
        takes = bool(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        takes = False
    made = make(generator) if takes else make()
    made = made if isinstance(made, (tuple, list)) else (made,)
    inputs = [value if isinstance(value, Tensor) else torch.as_tensor(value) for value in made]
    if not inputs:
        raise ValueError(f"{getattr(make, '__name__', make)} makes no inputs; expected tensors")
    return tuple(
        (value.detach().to(dtype) if value.is_floating_point() else value).to(device)
        for value in inputs
    )


def described(make: Callable[..., Any]) -> tuple[Input, ...]:
    """Descriptions of the inputs that a function makes."""
    inputs = made_inputs(make, Generator().manual_seed(0), torch.float32, "cpu")
    return tuple(
        Input(
            tuple(value.shape),
            "real" if value.is_floating_point() else "bool" if value.dtype == torch.bool
            else "index",
            classes=int(value.max()) + 1 if value.dtype == torch.int64 and value.numel() else 0,
            made=make,
        )
        for value in inputs
    )  # fmt: skip


_DOMAINS: dict[str, Domain] = {
    "float": "real", "real": "real", "probability": "probability", "prob": "probability",
    "binary": "binary", "long": "index", "int": "index", "index": "index", "bool": "bool",
    "onehot": "onehot", "permutation": "permutation", "sorted": "sorted", "softmax": "softmax",
    "positive": "positive",
}  # fmt: skip
_WITH_CLASSES = ("index", "onehot")


def parse_input(text: str) -> Input:
    """Read ``SHAPE[:DOMAIN[:CLASSES]][:constant]``: "4,3", "4x3", "4:long:10", "4:onehot:10".

    Domains are float (default), probability, binary, bool, long (whose numbers are below CLASSES),
    onehot (whose rows have CLASSES entries), permutation, sorted, softmax and positive. The shape
    of a zero-dimensional input is empty.

    Raises:
        ValueError: the text is not of this form.
    """
    shape, *rest = text.strip().split(":")
    constant = "constant" in rest
    domain, *classes = [part for part in rest if part != "constant"] or ["float"]
    try:
        kind = _DOMAINS.get(domain)
        if kind is None or len(classes) != (kind in _WITH_CLASSES):
            raise ValueError
        shape = shape.strip("()[] ")
        if not re.fullmatch(r"(\d+\s*(,|x|$)\s*)*", shape):
            raise ValueError
        sizes = tuple(map(int, re.findall(r"\d+", shape)))
        count = int(classes[0]) if classes else 0
        return Input((*sizes, count) if kind == "onehot" else sizes, kind, constant, count)
    except ValueError:
        raise ValueError(
            "expected an input such as 4,3 or 4:long:10 or 4,3:probability or 4,3:float:constant "
            f"(domains: {', '.join(_DOMAINS)}), got {text!r}"
        ) from None
