"""A loss with a forward and a backward of its own, right and wrong.

python bench/verify.py --subject bench/examples/loss_object.py:MSE \\
    --reference torch.nn.MSELoss --input 4,3 --input 4,3
"""

from torch import Tensor


class MSE:
    """The squares of all errors, summed over a sample and averaged over the samples."""

    def forward(self, prediction: Tensor, target: Tensor) -> float:
        self.error = prediction - target
        return float(self.error.square().sum() / len(prediction))

    def backward(self) -> Tensor:
        return 2 * self.error / len(self.error)


class WrongMSE(MSE):
    """The same gradient, of a loss that is averaged over all entries."""

    def forward(self, prediction: Tensor, target: Tensor) -> float:
        super().forward(prediction, target)
        return float(self.error.square().mean())
