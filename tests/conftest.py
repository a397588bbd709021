import torch

# The tensors of the tests are small: a second thread costs more to wake than it saves, and tests
# that run beside each other (pytest -n) would fight over the cores.
torch.set_num_threads(1)

pytest_plugins = ["pytester"]  # to run the plugin in a project of its own
