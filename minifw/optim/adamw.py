"""AdamW: Adam whose weight decay passes the moments by."""

from collections.abc import Iterable, Mapping
from typing import Any

from minifw.nn.parameter import Parameter
from minifw.optim.adam import Adam

__all__ = ["AdamW"]


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): see :class:`Adam`.

    The weights shrink by lr * weight_decay a step, whatever the moments are.

    Args:
        params: the parameters to train, or groups of them.
        lr: learning rate. Default: 1e-3.
        betas: decay of the mean and of the variance. Default: (0.9, 0.999).
        eps: added to the denominator. Default: 1e-8.
        weight_decay: decay of the weights. Default: 1e-2.
        amsgrad: whether the variance may not fall. Default: False.
        maximize: whether to ascend instead. Default: False.

    Raises:
        ValueError: as :class:`Adam`.

    Source: :class:`torch.optim.AdamW`.
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # as torch: whatever was saved
