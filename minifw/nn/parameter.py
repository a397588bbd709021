"""Parameter: a tensor that training changes, and its gradient."""

import torch
from torch import Tensor

__all__ = ["Parameter"]


class Parameter:
    """A tensor that training changes, the gradient of the loss in it, and whether it is trained.

    As :class:`torch.nn.Parameter`, but it holds a tensor instead of being one, so that autograd
    cannot record operations on it.

    Args:
        data: the values; kept, not copied.
        requires_grad: whether backward passes fill ``grad`` and optimizers change ``data``.
            Default: True.

    Attributes:
        data (Tensor): the values; never requires grad in autograd's sense.
        grad (Tensor | None): sum of the gradients since the last ``zero_grad``, shape of ``data``.
        requires_grad (bool): minifw's own flag, unknown to autograd.

    Raises:
        TypeError: ``data`` is not a tensor.
        RuntimeError: ``requires_grad`` for a dtype that is not floating-point; assigning a ``grad``
            of another shape, dtype or device than ``data`` (as torch).
    """

    __slots__ = ("_grad", "_lent", "data", "requires_grad")

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter expects a torch.Tensor, got {type(data).__name__}")
        if requires_grad and not data.is_floating_point():
            raise RuntimeError(
                f"only floating-point tensors can require gradients, got {data.dtype}; "
                "convert the data or pass requires_grad=False"
            )
        self.data = data.detach()
        self.grad = None
        self.requires_grad = requires_grad

    @property
    def grad(self) -> Tensor | None:
        if self._lent and self._grad is not None:
            self.grad = self._grad.clone()
        return self._grad

    @grad.setter
    def grad(self, grad: Tensor | None) -> None:
        if grad is not None:
            data = self.data
            if not isinstance(grad, Tensor):
                raise TypeError(f"grad must be a torch.Tensor or None, got {type(grad).__name__}")
            if (grad.shape, grad.dtype, grad.device) != (data.shape, data.dtype, data.device):
                expected, found = (
                    f"shape {list(t.shape)}, {t.dtype}, on {t.device}" for t in (data, grad)
                )
                raise RuntimeError(f"grad must be as the parameter's data, {expected}, got {found}")
        self._grad, self._lent = grad, False

    @property
    def shape(self) -> torch.Size:
        return self.data.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.data.dtype

    @property
    def device(self) -> torch.device:
        return self.data.device

    def numel(self) -> int:
        return self.data.numel()

    def requires_grad_(self, requires_grad: bool = True) -> "Parameter":
        """Set ``requires_grad`` and return the parameter."""
        self.requires_grad = requires_grad
        return self

    def add_grad(self, grad: Tensor) -> None:
        """Add to ``grad``, out of place: a gradient that was read never changes later."""
        earlier = self.grad
        self._grad, self._lent = grad if earlier is None else earlier + grad, False

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset ``grad`` to None, or to zeros."""
        if set_to_none:
            self._grad, self._lent = None, False
        elif self.grad is not None:
            self.grad = torch.zeros_like(self.grad)

    def __getstate__(self) -> object:
        self.grad = self.grad  # a pickled or copied parameter must not share a lent gradient
        return super().__getstate__()

    def __repr__(self) -> str:
        frozen = "" if self.requires_grad else ", requires_grad=False"
        return f"Parameter({self.data}{frozen})"
