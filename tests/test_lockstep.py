"""Whole training runs: every recipe, on both frameworks, from one start, over the same batches."""

import dataclasses

import pytest
import torch

from reference.frameworks import MINIFW, PYTORCH
from reference.recipes import RECIPES
from reference.run import RecipeRun, data_generator, prepare


def weights(run: RecipeRun) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in run.model.state_dict().items()}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_full_run_in_float64_ends_with_the_weights_of_pytorch(recipe):
    runs = [
        prepare(recipe, framework, seed=0, dtype=torch.float64) for framework in (PYTORCH, MINIFW)
    ]
    first = next(iter(weights(runs[0])))
    before = weights(runs[0])[first].clone()
    histories = [run.fit(recipe.epochs) for run in runs]

    expected, actual = (weights(run) for run in runs)
    assert expected.keys() == actual.keys()
    # Rounding alone is left, and the runs are short enough that it does not grow past 1e-12.
    apart = max((expected[name] - actual[name]).abs().max().item() for name in expected)
    assert apart <= 1e-12, f"{recipe.name}: weights are {apart:.2g} apart"
    assert (expected[first] - before).abs().max() > 0.01, "training has changed nothing"
    assert len(histories[0]) == len(histories[1])
    for column in ("loss", "train_accuracy", "validation_accuracy"):
        assert [row[column] for row in histories[0]] == pytest.approx(
            [row[column] for row in histories[1]], rel=1e-12
        )


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_default_initializations_are_the_same_bit_for_bit(recipe):
    expected, actual = (
        weights(prepare(recipe, framework, seed=3, initialization="default"))
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


def test_an_unknown_initialization_is_refused():
    with pytest.raises(ValueError, match=r"recipe.*default.*'zeros'"):
        prepare(RECIPES["relu-mse"], MINIFW, 0, initialization="zeros")


@pytest.mark.parametrize("framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name)
def test_a_module_of_ones_own_trains_as_the_sequential_of_the_same_layers(framework):
    """No rounding is allowed for: both do the same operations."""
    runs = [
        prepare(RECIPES[name], framework, seed=0)
        for name in ("softmax-sequential", "softmax-custom")
    ]
    histories = [run.fit(epochs=10) for run in runs]
    for expected, actual in zip(*(weights(run).values() for run in runs), strict=True):
        assert torch.equal(expected, actual)
    assert [row["loss"] for row in histories[0]] == [row["loss"] for row in histories[1]]


@pytest.mark.parametrize("framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name)
def test_a_run_that_stops_early_ends_with_the_weights_of_its_lowest_validation_loss(framework):
    recipe = dataclasses.replace(RECIPES["early-stopping"], patience=2)
    run = prepare(recipe, framework, seed=0)
    history = run.fit(recipe.epochs)
    losses = [row["validation_loss"] for row in history]
    best = losses.index(min(losses))
    assert len(history) < recipe.epochs
    assert best == len(history) - 3
    assert run.accuracy(run.validation) == history[best]["validation_accuracy"]
    again = prepare(recipe, framework, seed=0)
    again.fit(best + 1)
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, weights(again)[name])


def test_training_test_and_validation_points_have_none_in_common():
    run = prepare(RECIPES["early-stopping"], MINIFW, seed=0)
    parts = [{tuple(point) for point in part[0].tolist()} for part in (run.train, run.test)]
    parts.append({tuple(point) for point in run.validation[0].tolist()})
    assert [len(part) for part in parts] == [1000, 1000, 1000]
    assert len(set.union(*parts)) == 3000


def test_inputs_are_normalized_by_the_training_points_wherever_they_are_used():
    run = prepare(RECIPES["softmax-sequential"], MINIFW, seed=0)
    assert run.train[0].mean(0).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert run.test[0].mean(0).abs().max() > 1e-3, "the test points have a mean of their own"
    run.fit(epochs=30)
    points, classes = run.recipe.data(data_generator(0))[1]
    assert (run.inside(points) == (classes == 1)).double().mean() == run.accuracy(run.test)
