"""Timing: trials in a random order, honest intervals, and no speed of what is wrong."""

import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from bench.faults import FAULTS
from bench.runs.sweep import Settings
from bench.timing import recipes as speed
from bench.timing.interleave import COMPARED, SIDES
from bench.timing.recipes import (
    TIMED_PARTS,
    format_speed,
    step_memory,
    summarize_speed,
    time_recipe,
)
from minifw.testing.timing.memory import peak_memory
from minifw.testing.timing.rounds import (
    compare_sides,
    interleave,
    median_interval,
    repeat_name,
    threads,
)
from reference.frameworks import FRAMEWORKS, MINIFW, PYTORCH
from reference.recipes import RECIPES
from reference.run import prepare

RELU_MSE = RECIPES["relu-mse"]
ROUNDS = 21


def drawn(seed: int, factor: float, noise: float = 0.1) -> pd.DataFrame:
    """Rounds of sides of which PyTorch's takes ``factor`` times as long."""
    generator = np.random.default_rng(seed)
    drift = 1 + 0.5 * np.sin(np.arange(ROUNDS))  # which is the same for all sides of a round
    return pd.DataFrame(
        {
            side: drift * generator.lognormal(0, noise, ROUNDS) * scale
            for name, scale in (("minifw", 1.0), ("pytorch", factor))
            for side in (name, repeat_name(name))
        }
    )


def test_every_call_is_made_once_a_round_in_every_order():
    made: list[str] = []
    rounds = interleave({name: partial(made.append, name) for name in "abc"}, rounds=200)
    orders = Counter("".join(made[start : start + 3]) for start in range(0, 600, 3))
    assert sorted(orders) == ["abc", "acb", "bac", "bca", "cab", "cba"]  # misses one: 1e-15
    assert [list(results) for results in rounds] == [["a", "b", "c"]] * 200


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_interval_of_a_median_is_the_one_of_the_sign_test():
    # Of 21 values at most 5 are on one side of the median with probability 1.3 %, on either side.
    values = np.random.default_rng(0).permutation(np.arange(21.0))
    assert median_interval(values) == (10, 5, 15)
    assert median_interval(values[:5]) == (np.median(values[:5]), *sorted(values[:5])[::4])


def test_the_interval_holds_the_median_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        _, low, high = median_interval(generator.lognormal(size=ROUNDS))
        held += low <= 1 <= high
    assert 0.95 <= held / 300 < 1  # 97.3 % is exact


def test_a_difference_is_claimed_where_there_is_one():
    assert compare_sides(drawn(0, factor=1.5), SIDES)["claim"] == "minifw faster"
    assert compare_sides(drawn(0, factor=1 / 1.5), SIDES)["claim"] == "PyTorch faster"


def test_a_difference_of_a_side_from_itself_is_claimed_at_most_twice_in_fifty():
    claims = [compare_sides(drawn(seed, factor=1.0), SIDES)["claim"] for seed in range(50)]
    assert sum(claim != "no difference shown" for claim in claims) <= 2


def test_a_difference_within_the_noise_floor_is_not_claimed():
    rounds = drawn(0, factor=1.2, noise=0.01)
    assert compare_sides(rounds, SIDES)["claim"] == "minifw faster"
    noisy = compare_sides(rounds.assign(**{repeat_name("pytorch"): 1.5 * rounds["pytorch"]}), SIDES)
    assert noisy["ratio_low"] > 1
    assert (noisy["noise"], noisy["claim"]) == (pytest.approx(1.5), "no difference shown")


def test_too_few_rounds_claim_nothing():
    rounds = drawn(0, factor=2.0, noise=0.01)
    assert compare_sides(rounds[:6], SIDES)["claim"] == "minifw faster"
    assert compare_sides(rounds[:5], SIDES)["claim"] == "no difference shown"


def test_the_comparison_is_of_medians_and_of_ratios_within_a_round():
    rounds = drawn(0, factor=2.0)
    row = compare_sides(rounds, SIDES)
    assert list(row) == COMPARED
    assert row["rounds"] == ROUNDS
    assert row["minifw"] == rounds["minifw"].median()
    assert row["pytorch_q3"] == rounds["pytorch"].quantile(0.75)
    assert row["ratio"] == (rounds["pytorch"] / rounds["minifw"]).median()
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]


def test_a_recipe_is_timed_on_every_side_in_every_part():
    rows = time_recipe(RELU_MSE, 2, Settings())
    assert (rows["seconds"] > 0).all()
    sides = [side for name in FRAMEWORKS for side in (name, repeat_name(name))]
    counted = rows.groupby(["recipe", "part", "round", "side"]).size()
    assert (counted == 1).all()
    assert len(counted) == len(TIMED_PARTS) * 2 * len(sides)
    assert set(rows["side"]) == set(sides)


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_the_steps_whose_parts_are_timed_are_steps(framework, monkeypatch):
    """After a trial, the weights are those of training."""
    run = prepare(RELU_MSE, framework, seed=0)
    monkeypatch.setattr(speed, "prepare", lambda *args, **options: run)
    speed._trial(RELU_MSE, framework, Settings())
    plain = prepare(RELU_MSE, framework, seed=0)
    plain.fit(epochs=1 + speed.EPOCHS, measure=False)
    order = plain.batch_order.get_state()
    for _ in range(2):  # both on the same batches
        plain.batch_order.set_state(order)
        plain.fit(epochs=1, measure=False)
    for expected, actual in zip(
        plain.model.state_dict().values(), run.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, actual)


def test_timing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    time_recipe(RECIPES["dropout-bce"], 1, Settings())
    step_memory(RECIPES["dropout-bce"], Settings())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("Linear's weight gradient off by a factor of 1 + 1e-5 in a single entry", "float64"),
        ("MSELoss's backward forgets the factor of 2", "float"),
        ("SGD's zero_grad leaves all but the first gradient", "float"),
        ("Linear computes in float16 what is in float32", "float32"),  # which may well be faster
    ],
)
def test_there_is_no_speed_of_a_framework_that_is_wrong(name, dtype):
    (wrong,) = (fault.framework() for fault in FAULTS if fault.name == name)
    hurt = replace(MINIFW, nn=wrong.nn, optim=wrong.optim)
    rows = time_recipe(RELU_MSE, 2, Settings(), (hurt, PYTORCH))
    assert rows["seconds"].isna().all()
    assert list(rows["part"]) == list(TIMED_PARTS)
    right = time_recipe(RECIPES["xavier-tanh"], 1, Settings())
    table = summarize_speed(pd.concat([rows, right]), step_memory(RELU_MSE, Settings()))
    own = table[table["recipe"] == "relu-mse"]
    expected = rf"not timed: relu-mse in {dtype}\d*, \d+ steps: diverged at .* looks like a fault"
    assert own["claim"].str.match(expected).all()
    assert own.drop(columns=["recipe", "part", "claim"]).isna().all(axis=None)
    assert table[table["recipe"] == "xavier-tanh"]["ratio"].notna().all()
    shown = format_speed(own)
    assert (shown.drop(columns=["recipe", "part", "claim"]) == "").all(axis=None)


def test_the_summary_of_a_file_is_that_of_the_rows(tmp_path):
    rows, memory = time_recipe(RELU_MSE, 3, Settings()), step_memory(RELU_MSE, Settings())
    rows.to_csv(tmp_path / "timings.csv", index=False)
    table = summarize_speed(rows, memory)
    pd.testing.assert_frame_equal(
        table, summarize_speed(pd.read_csv(tmp_path / "timings.csv"), memory)
    )
    assert list(table["part"]) == list(TIMED_PARTS)
    assert list(table["minifw_bytes"].notna()) == [part == "step" for part in TIMED_PARTS]
    shown = format_speed(table)
    assert shown["minifw (quartiles)"].str.fullmatch(r"[\d.,]+ (ms|µs) \([\d.,]+-[\d.,]+\)").all()


def test_peak_memory_is_what_is_held_at_once():
    earlier = torch.zeros(1000)

    def hold_two_of_three():
        one, other = torch.zeros(1000), earlier * 2
        del one
        return torch.zeros(1000) + other[:0].sum()

    assert 3 * 4000 <= peak_memory(hold_two_of_three)[0] < 4 * 4000


def test_peak_memory_leaves_the_standard_error_stream_alone(capfd):
    peak_memory(lambda: torch.zeros(3))
    sys.stderr.write("after")
    assert capfd.readouterr() == ("", "after")


def test_the_memory_of_a_step_counts_weights_gradients_and_outputs():
    memory = step_memory(RELU_MSE, Settings()).set_index("side")["bytes"]
    sizes = (2, 25, 25, 25, 1)
    weights = 4 * sum((before + 1) * after for before, after in pairwise(sizes))
    outputs = 4 * RELU_MSE.batch_size * sum(sizes[1:])
    # The gradients in the outputs are of their size; a plan keeps all that a step makes.
    assert 2 * weights + outputs < memory["pytorch"] < 2 * (2 * weights + 2 * outputs)
    assert 2 * weights + outputs < memory["minifw"] < 4 * (2 * weights + 2 * outputs)
