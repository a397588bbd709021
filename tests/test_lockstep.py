"""Whole training runs: every recipe, on both frameworks, from one start, over the same batches."""

import pytest
import torch

from reference.frameworks import MINIFW, PYTORCH
from reference.recipes import RECIPES
from reference.run import Run, prepare


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in run.model.state_dict().items()}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_full_run_in_float64_ends_with_the_weights_of_pytorch(recipe):
    runs = [
        prepare(recipe, framework, seed=0, dtype=torch.float64) for framework in (PYTORCH, MINIFW)
    ]
    before = weights(runs[0])["0.weight"].clone()
    histories = [run.fit(recipe.epochs) for run in runs]

    expected, actual = (weights(run) for run in runs)
    assert expected.keys() == actual.keys()
    # Rounding alone is left, and the runs are short enough that it does not grow past 1e-12.
    apart = max((expected[name] - actual[name]).abs().max().item() for name in expected)
    assert apart <= 1e-12, f"{recipe.name}: weights are {apart:.2g} apart"
    assert (expected["0.weight"] - before).abs().max() > 0.01, "training has changed nothing"
    for column in ("loss", "train_accuracy", "validation_accuracy"):
        assert [row[column] for row in histories[0]] == pytest.approx(
            [row[column] for row in histories[1]], rel=1e-12
        )


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_default_initialisations_are_the_same_bit_for_bit(recipe):
    expected, actual = (
        weights(prepare(recipe, framework, seed=3, initialisation="default"))
        for framework in (PYTORCH, MINIFW)
    )
    for name in expected:
        assert torch.equal(expected[name], actual[name])


def test_a_run_is_a_function_of_recipe_framework_and_seed():
    recipe = RECIPES["dropout-bce"]
    global_state = torch.get_rng_state()
    first, again, other = (prepare(recipe, MINIFW, seed) for seed in (1, 1, 2))
    for run in (first, again, other):
        run.fit(epochs=2)
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, weights(again)[name])
        assert not torch.equal(tensor, weights(other)[name])
    assert torch.equal(global_state, torch.get_rng_state())


def test_an_unknown_initialisation_is_refused():
    with pytest.raises(ValueError, match=r"recipe.*default.*'zeros'"):
        prepare(RECIPES["relu-mse"], MINIFW, 0, initialisation="zeros")
