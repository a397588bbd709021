"""How long a training step of each recipe takes, minifw beside PyTorch.

Each is verified before it is timed, by an epoch in lockstep.
"""

from functools import cache
from itertools import cycle

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.equivalence.lockstep import lockstep
from minifw.data import batches
from minifw.testing.case import seeded
from minifw.testing.verdict import Status
from reference.frameworks import FRAMEWORKS, Framework
from reference.recipes import RECIPES, Recipe
from reference.run import prepare


@cache
def verified(recipe: str) -> bool:
    run = lockstep(RECIPES[recipe], epochs=1)
    assert run.status == Status.PASSED, run
    return True


@pytest.mark.benchmark(max_time=0.2)
@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_step(benchmark: BenchmarkFixture, recipe: Recipe, framework: Framework) -> None:
    assert verified(recipe.name)
    benchmark.group = f"step: {recipe.name}"
    run = prepare(recipe, framework, seed=0)
    epoch = cycle(list(batches(run.train, recipe.batch_size, run.batch_order)))

    def step() -> object:
        model_and_optimizer = (run.model, run.criterion, run.optimizer)
        return framework.train_step(*model_and_optimizer, *next(epoch))

    with seeded(0):
        assert benchmark(step).isfinite()
