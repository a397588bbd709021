"""The summary: three questions, answered from the files of the folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

__all__ = ["Answer", "summary"]


@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    Attributes:
        question: in a few words.
        verdict: one of "good", "bad", "open".
        answer: in a word or two.
        evidence: in a sentence or two.
        part: the part of the page with the details.
    """

    question: str
    verdict: str
    answer: str
    evidence: str
    part: str


def _missing(question: str, part: str) -> Answer:
    return Answer(question, "open", "Unknown", "The folder has no such results; see below.", part)


def _correct(shown: Mapping[str, Mapping[str, Any]]) -> Answer:
    question = "Is it correct?"
    if "verification" not in shown:
        return _missing(question, "verification")
    verdicts = shown["verification"]
    good = verdicts["passed"] == verdicts["cases"]
    evidence = (
        f"{verdicts['passed']} of {verdicts['cases']} comparisons with PyTorch pass, in "
        f"{verdicts['examples']:,} examples."
    )
    if "faults" in shown:
        faults = shown["faults"]
        good = good and faults["killed"] == faults["faults"]
        evidence += f" The checks find {faults['killed']} of {faults['faults']} deliberate faults."
    return Answer(
        question, "good" if good else "bad", "Yes" if good else "No", evidence, "verification"
    )


def _accurate(shown: Mapping[str, Mapping[str, Any]]) -> Answer:
    question = "Is it as accurate?"
    if "accuracy" not in shown:
        return _missing(question, "accuracy")
    tested = shown["accuracy"]
    counts = tested["counts"]
    equivalent = counts.get("equivalent", 0)
    evidence = (
        f"{equivalent} of {tested['rows']} accuracies ({tested['recipes']} recipes, training and "
        f"test) are equivalent to PyTorch's within ±{tested['margin']:.1f} percentage points, over "
        f"{tested['seeds']} seeds. The largest mean difference is "
        f"{tested['farthest']:.2f} percentage points."
    )
    if equivalent == tested["rows"]:
        return Answer(question, "good", "Equivalent", evidence, "accuracy")
    if counts.get("different", 0):
        return Answer(question, "bad", "Different", evidence, "accuracy")
    return Answer(question, "open", "Inconclusive", evidence, "accuracy")


def _fast(shown: Mapping[str, Mapping[str, Any]]) -> Answer:
    question = "How fast is it?"
    if "speed" not in shown:
        return _missing(question, "speed")
    rows: pd.DataFrame = shown["speed"]["rows"]
    whole = rows[rows["part"] == "epoch"]
    claims = whole["claim"].str.partition(":")[0]  # the reason follows "not timed:"
    evidence = "An epoch of training: " + "; ".join(
        f"{claim} in {number} of {len(whole)} recipes"
        for claim, number in claims.value_counts().items()
    )
    shown_faster = whole.loc[claims.isin(["minifw faster", "PyTorch faster"]), "ratio"]
    if shown_faster.empty:
        return Answer(question, "open", "No difference shown", f"{evidence}.", "speed")
    return Answer(
        question,
        "bad" if "PyTorch faster" in set(claims) else "good",
        f"{shown_faster.min():.2f} to {shown_faster.max():.2f} times as fast as PyTorch",
        f"{evidence}.",
        "speed",
    )


def summary(shown: Mapping[str, Mapping[str, Any]]) -> list[Answer]:
    """Answer the three questions from the variables of the shown parts."""
    return [_correct(shown), _accurate(shown), _fast(shown)]
