"""The parts on cost: speed-up over PyTorch, memory, scaling, and the peers."""

from pathlib import Path
from typing import Any

from bench import figures
from bench.page.files import paragraphs, read_csv
from bench.page.tables import count, microseconds, percent, size, table, two_digits
from bench.page.written import as_written

__all__ = ["peers", "scaling", "speed"]

TITLES = {
    "epoch": "an epoch",
    "step": "a training step",
    "forward": "its forward pass",
    "backward": "its backward pass",
    "optimizer": "its optimizer",
}

_SIDES = ("minifw", "pytorch")
_BYTES = ("minifw_bytes", "pytorch_bytes")
_HEADINGS = {
    "recipe": "recipe",
    "claim": "claim",
    "ratio": "speed-up over PyTorch",
    "noise": "noise floor",
    "minifw": "minifw, µs",
    "pytorch": "PyTorch, µs",
    "rounds": "rounds",
}
_PARTS_HEADINGS = {"recipe": "recipe", "part": "part", **_HEADINGS}
_FORMATS = {
    "minifw": microseconds,
    "pytorch": microseconds,
    "ratio": two_digits,
    "noise": two_digits,
}
_RATIO = ("ratio", "ratio_low", "ratio_high", "noise_low", "noise_high")


def speed(folder: Path) -> dict[str, Any]:
    """Speed-up and noise floor, by part of a step; the memory of a step."""
    columns = ("recipe", "part", "claim", "rounds", "noise", *_RATIO, *_SIDES, *_BYTES)
    rows = read_csv(folder / "speed.csv", *columns)
    shown = rows.dropna(subset=["ratio"])
    low = min(1, shown[list(_RATIO[1:])].min().min())
    high = max(1, shown[list(_RATIO[1:])].max().max())
    room = 0.05 * (high - low)  # for the markers at the ends
    pictures = []
    for part, group in shown.groupby("part", sort=False):
        title = TITLES.get(str(part), str(part))
        lines = group.rename(columns={"recipe": "label", "ratio": "value"})
        lines = lines.rename(columns={"ratio_low": "low", "ratio_high": "high"})
        summary = "; ".join(
            f"{row.label} {row.value:.2f}, {row.claim}" for row in lines.itertuples()
        )
        pictures.append(
            figures.inline(
                figures.as_svg(
                    figures.draw_ratios(
                        lines.assign(claimed=group["claim"].str.endswith("faster")),
                        "speed-up over PyTorch",
                        title,
                        (low - room, high + room),
                    )
                ),
                f"ratios-{part}",
                f"Dot plot: speed-up over PyTorch, {title}, with 95 % intervals and noise floor. "
                f"{summary}.",
            )
        )
    memory = rows[["recipe", *_BYTES]].dropna()
    memory = memory.assign(ratio=memory["minifw_bytes"] / memory["pytorch_bytes"])
    return {
        "rows": rows,
        "pictures": pictures,
        "text": paragraphs(folder / "speed.md"),
        "memory": table(
            memory,
            "memory",
            "Peak memory of a training step: the tensors of model, gradients and step",
            {
                "recipe": "recipe",
                "minifw_bytes": "minifw",
                "pytorch_bytes": "PyTorch",
                "ratio": "minifw / PyTorch",
            },
            {"minifw_bytes": size, "pytorch_bytes": size, "ratio": two_digits},
        ),
        "epochs": table(
            rows[rows["part"] == "epoch"], "epochs", "An epoch of training", _HEADINGS, _FORMATS
        ),
        "parts": table(rows, "parts", "A training step and its parts", _PARTS_HEADINGS, _FORMATS),
    }


def scaling(folder: Path) -> dict[str, Any]:
    """A training step as the network grows, and where overhead ends."""
    measured = {
        "axis": "growing",
        "size": "size",
        "claim": "claim",
        "ratio": "speed-up over PyTorch",
        "noise": "noise floor",
        "minifw": "minifw, µs",
        "pytorch": "PyTorch, µs",
        "minifw_bytes": "memory, minifw",
        "pytorch_bytes": "memory, PyTorch",
        "minifw_peak_share": "% of peak, minifw",
        "pytorch_peak_share": "% of peak, PyTorch",
    }
    formats = {
        **_FORMATS,
        **dict.fromkeys(_BYTES, size),
        **dict.fromkeys(("minifw_peak_share", "pytorch_peak_share", "peak_share"), percent),
    }
    caption = "Time, memory and arithmetic of a training step by size"
    shown = as_written(folder, "scaling", caption, measured, formats)
    path = folder / "scaling_overhead.csv"
    if path.is_file():
        headings = {
            "axis": "growing",
            "framework": "framework",
            "twice_the_time": "twice the time from",
            "half_of_the_peak": "half of the peak from",
            "peak_share": "largest % of the peak",
        }
        shown["overhead"] = table(
            read_csv(path, *headings),
            "overhead",
            "The sizes at which overhead ends and arithmetic begins",
            headings,
            {"twice_the_time": count, "half_of_the_peak": count, "peak_share": percent},
        )
    return shown


def peers(folder: Path) -> dict[str, Any]:
    """A training step in other frameworks."""
    columns = ("setting", "members", "peer", "us", "us_q1", "us_q3", "speed", "cores")
    rows = read_csv(folder / "peers.csv", *columns)
    pictures = []
    for setting, draw, title in (
        ("network", figures.draw_network, "one network"),
        ("stack", figures.draw_stacks, "a network in the largest stack"),
    ):
        chosen = rows[rows["setting"] == setting]
        if len(chosen):
            largest = chosen[chosen["members"] == chosen["members"].max()].sort_values("us")
            summary = "; ".join(f"{row.peer} {row.us:.1f}" for row in largest.itertuples())
            pictures.append(
                figures.inline(
                    figures.as_svg(draw(rows)),
                    f"peers-{setting}",
                    f"Microseconds of a training step of {title}: {summary}.",
                )
            )
    headings = {
        "peer": "peer",
        "setting": "setting",
        "members": "networks",
        "us": "µs a step a network",
        "speed": "speed-up over PyTorch",
        "cores": "cores kept busy",
    }
    shown: dict[str, Any] = {}
    path = folder / "peers_claims.csv"
    if path.is_file():
        headings_of_claims = {"claim": "claim", "value": "median", "noise": "noise floor"}
        shown["claims"] = table(
            read_csv(path, *headings_of_claims),
            "claims",
            "What it comes to: medians of the ratios within a round",
            headings_of_claims,
            dict.fromkeys(("value", "noise"), two_digits),
        )
    return shown | {
        "pictures": pictures,
        "text": paragraphs(folder / "peers.md"),
        "peers": table(rows, "peers", "Time of a training step by peer", headings),
    }
