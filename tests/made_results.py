"""A made-up folder of results, with every file that the page reads."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from bench import figures
from bench.runs.regions import save_regions

RECIPES = ("relu-mse", "dropout-bce", "softmax-residual", "early-stopping")
SIDES = ("minifw", "pytorch")


def write_results(folder: Path, recipes: tuple[str, ...] = RECIPES) -> None:
    """Write all files; the numbers are drawn at random, and always the same."""
    rng = np.random.default_rng(0)
    _verification(recipes).to_csv(folder / "verification.csv", index=False)
    _kill_matrix(rng).to_csv(folder / "kill_matrix.csv", index=False)
    _accuracy(recipes, rng).to_csv(folder / "accuracy.csv", index=False)
    (folder / "accuracy.md").write_text(
        "| recipe |\n|:--|\n\nAccuracy: equivalent in all recipes, but for `relu-mse` <b>.\n"
    )
    _curves(recipes, rng).to_csv(folder / "learning_curves.csv", index=False)
    save_regions(_regions(recipes), folder / "decision_regions.npz")
    _speed(recipes, rng).to_csv(folder / "speed.csv", index=False)
    _peers().to_csv(folder / "peers.csv", index=False)
    _claims().to_csv(folder / "peers_claims.csv", index=False)
    for name in ("scaling", "initialization"):
        figure, axes = plt.subplots(figsize=(9, 4))
        axes.plot([1, 2, 4], rng.random(3), color="black")
        axes.set(xlabel="size", title=name)
        figures.save(figure, folder / f"{name}.svg")
    _scaling().to_csv(folder / "scaling.csv", index=False)
    _overhead().to_csv(folder / "scaling_overhead.csv", index=False)
    (folder / "scaling.md").write_text("| a |\n|---|\n\nWhat follows from scaling.\n")
    for name in ("initialization", "profile"):
        frame = pd.DataFrame({"size": [1, 2, 4], "seconds": rng.random(3), "wrong": ["", "", "x"]})
        frame.to_csv(folder / f"{name}.csv", index=False)
        (folder / f"{name}.md").write_text(f"# {name}\n\nWhat follows from {name}.\n")
    provenance = {
        "date": "2026-01-01 00:00 UTC", "commit": "0123456789ab", "torch": "2.13.0+cpu",
        "processor": "A <Processor> & more", "cores": "2", "threads": "1", "blas": "mkl",
    }  # fmt: skip
    conditions = {"epochs": None, "dtype": "float32", "jobs": 2, "torch": "2.13.0+cpu"}
    (folder / "comparison.json").write_text(
        json.dumps({"conditions": conditions, "provenance": provenance, "table": []})
    )


def _verification(recipes: tuple[str, ...]) -> pd.DataFrame:
    cases = [f"run of {recipe} in float64" for recipe in recipes]
    cases += ["Linear(4, 3)-5x4:real", "Linear(4, 3, bias=False)-5x4:real", "ReLU()-5:real"]
    return pd.DataFrame(
        {
            "case": cases,
            "examples": 63,
            "status": "PASSED",
            "ULP in float64": 0.5,
            "ULP in float32": 1.25,
            "of bound": np.linspace(0, 0.79, len(cases)),
        }
    )


def _kill_matrix(rng: np.random.Generator) -> pd.DataFrame:
    kills = pd.DataFrame(rng.integers(0, 2, (6, 3)), columns=["values", "ties", "fuzzing"])
    kills["fuzzing"] = 1
    faults = [f"fault {number}, of <b> & co" for number in range(6)]
    return pd.concat([pd.DataFrame({"where": "nn.ReLU", "fault": faults}), kills], axis=1)


def _accuracy(recipes: tuple[str, ...], rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for recipe in recipes:
        for part in ("train", "test"):
            row: dict[str, Any] = {"recipe": recipe, "part": part, "margin": 1.0}
            for side in SIDES:
                mean = rng.uniform(0.93, 0.99)
                row |= {f"{side}_{name}": mean for name in ("mean", "iqm")}
                row |= {f"{side}_low": mean - 0.01, f"{side}_high": mean + 0.01}
                row |= {f"{side}_report": 0.968 if part == "test" else np.nan}
                row |= {f"{side}_report_vs_prediction": "within" if part == "test" else ""}
            for name in ("difference", "control"):
                mean = rng.normal(0, 0.1)
                row |= {f"{name}_mean": mean, f"{name}_low": mean - 0.3, f"{name}_high": mean + 0.4}
            row |= {"difference_seeds": 20, "difference_iqm": 0.0, "difference_tost_p": 0.0001}
            row |= {"difference_tost_power": 0.97, "difference_verdict": "equivalent"}
            rows.append(row)
    return pd.DataFrame(rows)


def _curves(recipes: tuple[str, ...], rng: np.random.Generator) -> pd.DataFrame:
    epochs = np.arange(1, 31)
    frames = [
        pd.DataFrame(
            {
                "recipe": recipe,
                "framework": side,
                "epoch": epochs,
                "seeds": 20,
                "loss_mean": 0.3 / np.sqrt(epochs),
                "loss_std": 0.02,
                "validation_accuracy_mean": 1 - 0.5 / epochs + rng.normal(0, 0.01, len(epochs)),
                "validation_accuracy_std": 0.02,
            }
        )
        for recipe in recipes
        for side in SIDES
    ]
    return pd.concat(frames)


def _regions(recipes: tuple[str, ...]) -> pd.DataFrame:
    y, x = np.mgrid[0:1:101j, 0:1:101j]
    rows = []
    for recipe in recipes:
        for side in SIDES:
            for stage, epoch in enumerate((1, 10, 50, 200)):
                away = 0.16 - (x - 0.5) ** 2 - (y - 0.5) ** 2 + 0.05 * np.sin(9 * x) * (3 - stage)
                share = np.round(20 / (1 + np.exp(-10 * (stage + 1) * away))) / 20
                rows.append((recipe, side, epoch, share.astype(np.float32)))
    return pd.DataFrame(rows, columns=["recipe", "framework", "epoch", "share"])


def _speed(recipes: tuple[str, ...], rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for recipe in recipes:
        for part in ("epoch", "step", "forward", "backward", "optimizer"):
            time, ratio = rng.uniform(1e-4, 2e-3), rng.uniform(1.3, 1.9)
            row: dict[str, Any] = {
                "recipe": recipe,
                "part": part,
                "rounds": 21,
                "claim": "minifw faster",
            }
            for side, seconds in (("minifw", time), ("pytorch", ratio * time)):
                row |= {side: seconds, f"{side}_q1": 0.9 * seconds, f"{side}_q3": 1.1 * seconds}
                row |= {f"{side}_bytes": 300_000.0 if part == "step" else np.nan}
            row |= {"ratio": ratio, "ratio_low": ratio - 0.1, "ratio_high": ratio + 0.1}
            row |= {"noise": 1.0, "noise_low": 0.96, "noise_high": 1.03}
            rows.append(row)
    wrong = [{"recipe": "slow", "part": "epoch", "claim": "not timed: parted at step 3"}]
    return pd.DataFrame(rows + wrong)


def _scaling() -> pd.DataFrame:
    frame = pd.DataFrame({"axis": "width", "size": [25, 50, 100], "wrong": ["", "", "differs"]})
    frame["claim"] = ["minifw faster", "no difference shown", ""]
    for side, times in (("minifw", (8e-5, 9e-5, np.nan)), ("pytorch", (2e-4, 2e-4, np.nan))):
        frame[side] = times
        frame[f"{side}_q1"], frame[f"{side}_q3"] = 0.9 * frame[side], 1.1 * frame[side]
        frame[f"{side}_bytes"], frame[f"{side}_peak_share"] = (
            (3e4, 3e6, np.nan),
            (0.01, 0.1, np.nan),
        )
    for name, value in (("ratio", 2.0), ("noise", 1.0)):
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = value, value - 0.1, value + 0.1
    return frame


def _overhead() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "axis": "width",
            "framework": SIDES,
            "twice_the_time": [140.0, 300.0],
            "half_of_the_peak": [np.nan, 1200.4],
            "peak_share": [0.4, 0.6],
        }
    )


def _peers() -> pd.DataFrame:
    rows = [
        {"setting": setting, "members": members, "peer": peer, "us": us / members, "cores": 1.0}
        for setting, sizes in (("network", (1,)), ("stack", (1, 8, 32)))
        for members in sizes
        for peer, us in (("minifw", 85.0), ("pytorch", 160.0), ("jax", 40.0))
    ]
    frame = pd.DataFrame(rows)
    frame = frame.assign(us_q1=0.9 * frame["us"], us_q3=1.1 * frame["us"], speed=1.0)
    return frame.assign(speed_low=0.9, speed_high=1.1)


def _claims() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "claim": ["network: speed-up over pytorch", "wide: memory of minifw / pytorch"],
            "value": [1.9, 0.9],
            "value_low": [1.8, np.nan],
            "value_high": [2.0, np.nan],
            "noise": [1.0, np.nan],
        }
    )
