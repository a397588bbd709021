"""The tables of the peers: medians, ratios and their intervals from the rounds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.timing.peers import BASELINE, REPEAT
from minifw.testing.timing.rounds import median_interval

__all__ = [
    "IMPORT",
    "MEMORY",
    "claim",
    "claims",
    "format_claims",
    "format_peers",
    "format_stacks",
    "summarize",
]

# By setting, the peers that minifw is compared with.
CLAIMED = {
    "network": ("pytorch", "jax"),
    "stack": ("pytorch", "pytorch-vmap", "jax-vmap-scan"),
    "wide": ("pytorch",),
}
CLAIMED_STACK = 32
MEMORY = "wide: peak memory of minifw / pytorch"
IMPORT = "import: milliseconds of minifw, after torch"

_TIME = ("us", "us_q1", "us_q3")
_SPEED = ("speed", "speed_low", "speed_high")
_VALUE = ("value", "value_low", "value_high")
_NOISE = ("noise", "noise_low", "noise_high")


def _ratio(trials: pd.DataFrame, baseline: str, peer: str) -> tuple[float, float, float]:
    """Speed-up of ``peer`` over ``baseline`` within a round: median and its 95 % interval."""
    seconds = trials.pivot_table(index=["process", "round"], columns="peer", values="seconds")
    return median_interval((seconds[baseline] / seconds[peer]).to_numpy())


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """One row a setting and peer.

    Args:
        trials: setting, members, process, round, peer, seconds a step a network, cores.

    Returns:
        Columns: setting, members, peer; median and quartiles of the microseconds a step a network;
        "speed", the speed-up over eager PyTorch, with its 95 % interval; the median of the cores
        kept busy.
    """
    rows = []
    for (setting, members), rounds in trials.groupby(["setting", "members"], sort=False):
        for peer, group in rounds.groupby("peer", sort=False):
            time = 1e6 * group["seconds"].quantile([0.5, 0.25, 0.75])
            speed = _ratio(rounds, BASELINE, str(peer))
            rows.append(
                {
                    "setting": setting,
                    "members": members,
                    "peer": peer,
                    **dict(zip(_TIME, time, strict=True)),
                    **dict(zip(_SPEED, speed, strict=True)),
                    "cores": group["cores"].median(),
                }
            )
    columns = ["setting", "members", "peer", *_TIME, *_SPEED, "cores"]
    return pd.DataFrame(rows, columns=columns)


def claim(setting: str, other: str) -> str:
    """The name of minifw's speed-up over another peer."""
    return f"{setting}: speed-up over {other}"


def claims(
    trials: pd.DataFrame, memory: Mapping[str, int], imports: Sequence[float]
) -> pd.DataFrame:
    """The claims about minifw: one row a claim.

    Args:
        trials: as :func:`summarize` expects. The claims are about the stack of CLAIMED_STACK, or
            the largest.
        memory: peak bytes of the wide network by peer; empty if not measured.
        imports: milliseconds that importing minifw takes; empty if not measured.

    Returns:
        Columns: claim, members; median "value" with its 95 % interval; and, for speed-ups,
        the "noise" floor: eager PyTorch timed against itself.
    """
    rows: list[dict[str, object]] = []
    for setting, others in CLAIMED.items():
        chosen = trials[trials["setting"] == setting]
        sizes = set(chosen["members"])
        members = CLAIMED_STACK if CLAIMED_STACK in sizes else max(sizes, default=1)
        chosen = chosen[chosen["members"] == members]
        for other in others:
            if {"minifw", other} <= set(chosen["peer"]):
                row = {"claim": claim(setting, other), "members": members}
                row |= dict(zip(_VALUE, _ratio(chosen, other, "minifw"), strict=True))
                row |= dict(zip(_NOISE, _ratio(chosen, BASELINE, REPEAT), strict=True))
                rows.append(row)
    if "minifw" in memory:
        rows.append({"claim": MEMORY, "value": memory["minifw"] / memory[BASELINE]})
    if imports:
        rows.append({"claim": IMPORT, **dict(zip(_VALUE, median_interval(imports), strict=True))})
    return pd.DataFrame(rows, columns=["claim", "members", *_VALUE, *_NOISE])


def _time(microseconds: float) -> str:
    return f"{microseconds:,.1f}" if microseconds < 1000 else f"{microseconds:,.0f}"


def _with_interval(row: "pd.Series[Any]", columns: tuple[str, str, str]) -> str:
    value, low, high = (row[column] for column in columns)
    if pd.isna(value):
        return ""
    return f"{value:.2f}" if pd.isna(low) else f"{value:.2f} ({low:.2f}-{high:.2f})"


def format_claims(table: pd.DataFrame) -> pd.DataFrame:
    """The claims as a human-readable table."""
    return pd.DataFrame(
        {
            "claim": table["claim"],
            "median (95 %)": [_with_interval(row, _VALUE) for _, row in table.iterrows()],
            "noise floor": [_with_interval(row, _NOISE) for _, row in table.iterrows()],
        }
    )


def format_peers(table: pd.DataFrame) -> pd.DataFrame:
    """The human-readable rows of one setting, the fastest first."""
    return pd.DataFrame(
        [
            {
                "peer": row["peer"],
                "µs/step": _time(row["us"]),
                "quartiles": f"{_time(row['us_q1'])}-{_time(row['us_q3'])}",
                "speed-up over PyTorch": ""
                if row["peer"] == BASELINE
                else _with_interval(row, _SPEED),
                "cores": f"{row['cores']:.2f}",
            }
            for _, row in table.sort_values("us").iterrows()
        ]
    )


def format_stacks(table: pd.DataFrame) -> pd.DataFrame:
    """The human-readable rows of stacks: a row a stack, a column a peer."""
    cells = [f"{_time(us)} ({speed:.2f})" for us, speed in table[["us", "speed"]].to_numpy()]
    rows = table.assign(cell=cells).pivot(index="members", columns="peer", values="cell")
    rows = rows[list(dict.fromkeys(table["peer"]))].fillna("")
    return rows.rename_axis(index="networks", columns=None).reset_index()
