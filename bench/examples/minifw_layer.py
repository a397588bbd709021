"""A layer of minifw, right and wrong.

python bench/verify.py --subject bench/examples/minifw_layer.py:Tanhshrink \\
    --reference torch.nn.Tanhshrink --input 4,3
"""

from torch import Tensor

from minifw import nn
from minifw.nn.rule import Pullback


class Tanhshrink(nn.Module):
    """x - tanh(x); its derivative is tanh(x)^2."""

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        tanh = input.tanh()
        return input - tanh, lambda grad_output: grad_output * tanh.square()


class WrongTanhshrink(nn.Module):
    """The same, with the derivative of tanh in place of what is left of it."""

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        tanh = input.tanh()
        return input - tanh, lambda grad_output: grad_output * (1 - tanh.square())
