"""One row for each verified unit: a minifw class, its torch.nn twin, their arguments and inputs.

Equivalence tests, gradient checks, the fuzzer and benchmarks read these rows, so a new layer needs
a row and nothing else.
"""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch

import minifw
from minifw.testing.case import Case, Input
from minifw.testing.comparison import Comparison
from reference import twins
from reference.torch_changes import lacks

__all__ = [
    "CASES",
    "build",
    "of_case",
]


def _on(module: str, *shape: int, **options: Any) -> Case:
    """A row for an elementwise module."""
    return Case(module, inputs=(Input(shape),), **options)


def _loss(module: str, input: Input, target: Input, **options: Any) -> tuple[Case, ...]:
    """Rows for a loss, one for each reduction."""
    inputs = (input, replace(target, constant=True))
    return tuple(
        Case(module, (), inputs, {**options, "reduction": reduction})
        for reduction in ("mean", "sum", "none")
    )


def _class_loss(module: str, **options: Any) -> tuple[Case, ...]:
    """Rows for a loss of five classes, with class indices as targets."""
    return (
        *_loss(module, Input((4, 5)), Input((4,), "index", classes=5), **options),
        *_loss(module, Input((3, 5, 2)), Input((3, 2), "index", classes=5), **options),
        *_loss(module, Input((5,)), Input((), "index", classes=5), **options),
    )


def _probability_loss(**options: Any) -> tuple[Case, ...]:
    """Rows for cross-entropy with class probabilities."""
    return (
        *(
            row
            for shape in ((4, 5), (2, 5, 2, 3))
            for row in _loss(
                "CrossEntropyLoss", Input(shape), Input(shape, "probability"), **options
            )
        ),
        *_loss("CrossEntropyLoss", Input((5,)), Input((5,), "probability"), **options),
    )


# PyTorch's kernels sum in float64. LayerNorm and BatchNorm square their input, so in a rule made of
# float32 operations intermediate results overflow although the final one does not.
_OVERFLOWS = {"largest": "intermediate numbers overflow in float32, where PyTorch keeps float64"}
_LAYER_OVERFLOWS = {} if lacks("LayerNorm largest") else _OVERFLOWS
_FIVE = torch.ones(5)  # drawn anew for each pass, as every buffer
_BLOCK = Case("Sequential", (Case("Linear", (3, 4)), Case("ReLU"), Case("Linear", (4, 3))))
_RESNET = (
    Case("Linear", (2, 3)),
    *(Case("Residual", (_BLOCK,)) for _ in range(2)),
    Case("LayerNorm", (3,)),
    Case("Linear", (3, 2)),
)
_NETWORK = (
    Case("Linear", (2, 6)),
    Case("ReLU"),
    Case("Dropout", (0.4,)),
    Case("Linear", (6, 5), options={"bias": False}),
    Case("Tanh"),
    Case("Linear", (5, 1)),
    Case("Sigmoid"),
)

_ELEMENTWISE = (*("ReLU", "LeakyReLU", "Softplus", "GELU", "SiLU", "Tanh", "Sigmoid", "Identity"),)

CASES: tuple[Case, ...] = (
    Case("Linear", (5, 3), (Input((4, 5)),)),
    Case("Linear", (5, 3), (Input((4, 5)),), {"bias": False}),
    Case("Linear", (5, 3), (Input((5,)),)),
    Case("Linear", (5, 3), (Input((5,)),), {"bias": False}),
    Case("Linear", (5, 3), (Input((4, 2, 5)),)),
    Case("Linear", (5, 3), (Input((4, 2, 5)),), {"bias": False}),
    Case("Linear", (5, 3), (Input((3, 1, 2, 5)),)),
    Case("Linear", (1, 1), (Input((6, 1)),)),
    *(
        _on("Dropout", *shape, arguments=(p,), training=training)
        for shape in ((6, 7), (3, 4, 5))
        for p, training in ((0.5, True), (0.3, True), (0.3, False), (0, True), (1, True))
    ),
    *(_on(name, *shape) for name in _ELEMENTWISE for shape in ((9,), (3, 2, 4))),
    *(
        Case("MSELoss", (), (Input(shape), Input(shape, constant=True)), {"reduction": reduction})
        for reduction in ("mean", "sum", "none")
        for shape in ((6,), (4, 3))
    ),
    *(
        Case(
            "BCELoss",
            (),
            (Input((5, 2), "probability"), Input((5, 2), domain, constant=True)),
            {"reduction": reduction},
        )
        for reduction in ("mean", "sum", "none")
        for domain in ("binary", "probability")
    ),
    *(
        row
        for weight in (None, torch.ones(2))
        for pos_weight in (None, torch.ones(2))
        for domain in ("binary", "probability")
        for row in _loss(
            "BCEWithLogitsLoss",
            Input((5, 2)),
            Input((5, 2), domain),
            weight=weight,
            pos_weight=pos_weight,
        )
    ),
    *_loss("BCELoss", Input((5, 2), "probability"), Input((5, 2), "binary"), weight=torch.ones(2)),
    *_loss(
        "BCEWithLogitsLoss",
        Input((5, 2)),
        Input((5, 2), "binary"),
        weight=torch.ones(5, 1),
    ),
    *(
        row
        for module, options in (
            ("L1Loss", {}),
            ("SmoothL1Loss", {}),
            ("SmoothL1Loss", {"beta": 0.3}),
            ("SmoothL1Loss", {"beta": 0.0}),
            ("HuberLoss", {}),
            ("HuberLoss", {"delta": 0.3}),
        )
        for shape in ((6,), (4, 3))
        for row in _loss(module, Input(shape), Input(shape), **options)
    ),
    *(
        row
        for name in ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
        for row in _loss(name, Input(()), Input(()))
    ),
    *_class_loss("NLLLoss"),
    *_class_loss("NLLLoss", weight=_FIVE, ignore_index=1),
    *_class_loss("CrossEntropyLoss"),
    # torch has a gradient of NLLLoss at this rank for contiguous tensors only.
    *_loss("CrossEntropyLoss", Input((2, 5, 2, 3)), Input((2, 2, 3), "index", classes=5)),
    *_class_loss("CrossEntropyLoss", weight=_FIVE, ignore_index=1),
    *_class_loss("CrossEntropyLoss", label_smoothing=0.1),
    *_class_loss("CrossEntropyLoss", weight=_FIVE, ignore_index=1, label_smoothing=0.1),
    *_probability_loss(),
    *_probability_loss(weight=_FIVE, label_smoothing=0.1),
    _on("LeakyReLU", 9, options={"negative_slope": 0.3}),
    # More entries than a vector register: only for the remaining ones torch passes on the gradient
    # of NaN.
    _on("ELU", 8, 16),
    _on("ELU", 8, 16, options={"alpha": 0.5}),
    _on("Softplus", 9, options={"beta": 3.0, "threshold": 1.5}),
    _on("GELU", 9, options={"approximate": "tanh"}),
    _on("GELU", 3, 2, 4, options={"approximate": "tanh"}),
    _on("Activation", 9, arguments=(torch.sin, torch.cos)),
    *(
        _on(name, *shape, arguments=(dim,))
        for name in ("Softmax", "LogSoftmax")
        for shape, dim in (((4, 5), 1), ((4, 5), 0), ((3, 2, 4), 1), ((3, 2, 4), -1), ((6,), 0))
    ),
    _on("Flatten", 3, 2, 4),
    _on("Flatten", 3, 2, 4, 2, options={"start_dim": 2}),
    _on("Flatten", 3, 2, 4, options={"start_dim": 0, "end_dim": 1}),
    _on("LayerNorm", 4, 5, arguments=(5,), exceptions=_LAYER_OVERFLOWS),
    _on("LayerNorm", 5, arguments=(5,), exceptions=_LAYER_OVERFLOWS),
    _on(
        "LayerNorm",
        2,
        3,
        4,
        2,
        arguments=((4, 2),),
        options={"eps": 0.1},
        exceptions=_LAYER_OVERFLOWS,
    ),
    _on("LayerNorm", 3, 5, arguments=(5,), options={"bias": False}, exceptions=_LAYER_OVERFLOWS),
    _on(
        "LayerNorm",
        3,
        5,
        arguments=(5,),
        options={"elementwise_affine": False},
        exceptions=_LAYER_OVERFLOWS,
    ),
    *(
        _on(
            "BatchNorm1d",
            *shape,
            arguments=(3,),
            options=options,
            training=training,
            exceptions=_OVERFLOWS,
        )
        for shape in ((5, 3), (4, 3, 4))
        for training in (True, False)
        for options in (
            {},
            {"momentum": None, "eps": 0.1},
            *(() if lacks("BatchNorm1d bias") else ({"bias": False},)),
            {"affine": False},
            {"track_running_stats": False},
        )
    ),
    *(
        Case(name, (), tuple(Input(shape) for shape in shapes))
        for name in ("Add", "Multiply")
        for shapes in (
            ((4, 3), (4, 3)),
            ((4, 3), (4, 1), (4, 3)),
            ((2, 4, 3), (3,)),
            ((), (3,), (3,)),
            ((4, 3),),
        )
    ),
    Case("Concatenate", (1,), (Input((4, 2)), Input((4, 3)), Input((4, 1)))),
    Case("Concatenate", (-1,), (Input((4, 2, 2)), Input((4, 2, 3)))),
    Case("Concatenate", (), (Input((4, 3)), Input((2, 3)))),
    Case("Concatenate", (), (Input((4, 3)),)),
    Case("Residual", (_BLOCK,), (Input((4, 3)),)),
    Case("Sequential", _RESNET, (Input((4, 2)),)),
    Case("Sequential", (), (Input((4, 2)),)),
    Case("Sequential", (Case("Dropout"), Case("Linear", (2, 3))), (Input((4, 2)),), training=True),
    Case("Sequential", _NETWORK, (Input((7, 2)),), training=True),
    Case("Sequential", _NETWORK, (Input((7, 2)),), training=False),
    Case(
        "Sequential",
        (Case("Sequential", _NETWORK), Case("Sequential"), Case("Linear", (1, 2)), Case("Tanh")),
        (Input((3, 4, 2)),),
        training=True,
    ),
)


def build(case: Case, nn: ModuleType) -> Any:
    """The module of ``case`` in ``minifw.nn`` or ``torch.nn``, in its mode."""
    arguments = [build(a, nn) if isinstance(a, Case) else a for a in case.arguments]
    namespace = twins if nn is torch.nn and case.module in twins.__all__ else nn
    with torch.random.fork_rng():
        module = getattr(namespace, case.module)(*arguments, **case.options)
    return module.train(case.training is not False)


def of_case(case: Case, nn: ModuleType = minifw.nn) -> Comparison:
    """The comparison of a row of :data:`reference.cases.CASES`.

    Args:
        case: the row.
        nn: namespace that the subject is built from. Default: ``minifw.nn``.
    """

    def factory(namespace: ModuleType) -> Callable[..., Any]:
        return lambda *arguments, **options: build(
            replace(case, arguments=arguments, options=options), namespace
        )

    return Comparison(
        case.name,
        factory(nn),
        factory(torch.nn),
        case.inputs,
        case.arguments,
        case.options,
        case.training,
        exceptions=case.exceptions,
    )
