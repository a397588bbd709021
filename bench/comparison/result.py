"""The comparison: what runs and timings come to, in tables, sentences and files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import figures
from bench.accuracy.tables import readable_accuracy, verdict_sentences
from bench.cli.files import markdown, records, write_files
from bench.cli.provenance import describe
from bench.runs import tables
from bench.runs.regions import average_regions, save_regions
from bench.runs.sweep import STACK, Finished
from bench.timing.recipes import readable_speed, speed_sentences
from reference.recipes import RECIPES
from reference.run import data_generator

__all__ = ["Comparison"]


@dataclass(frozen=True)
class Comparison:
    """All that a comparison has found.

    Attributes:
        finished: the runs.
        rounds: all timed rounds, as :func:`bench.timing.recipes.time_recipe` gives them.
        accuracy: as :func:`bench.accuracy.statistics.accuracy_statistics` gives it.
        speed: as :func:`bench.timing.recipes.summarize_speed` gives it.
        conditions: the settings, and how many runs, rounds and processes.
        provenance: as :func:`bench.cli.provenance.provenance` gives it.
    """

    finished: list[Finished]
    rounds: pd.DataFrame
    accuracy: pd.DataFrame
    speed: pd.DataFrame
    conditions: dict[str, Any]
    provenance: dict[str, str]

    @property
    def same(self) -> bool:
        """Whether nothing says that the frameworks differ.

        They do if a recipe was not timed since its steps are not the same, or if accuracies from
        the same first weights are "different".
        """
        different = (self.accuracy["difference_verdict"] == "different").any()
        from_one_start = self.conditions["initialization"] == "recipe"
        return bool(self.speed["ratio"].notna().all()) and not (from_one_start and different)

    def table(self) -> pd.DataFrame:
        """The table for people."""
        return tables.readable(self.accuracy, self.speed)

    def sentences(self) -> list[str]:
        """The verdicts, and how and on what they were reached."""
        of = self.conditions
        epochs = of["epochs"] or "each recipe's own number of"
        history = of["runs_from_history"]
        return [
            *verdict_sentences(self.accuracy),
            *speed_sentences(self.speed),
            "In brackets 95 % intervals: of a mean by the BCa bootstrap, of a median ratio by the "
            "sign test. ms/epoch: minifw / PyTorch.",
            f"Run with torch {self.provenance['torch']}, {of['dtype']} on {of['device']}, "
            f"{of['jobs']} process(es) of {of['threads']} thread(s), "
            f"{epochs} epochs, {of['rounds']} timed rounds, "
            f"first weights by {of['initialization']}. minifw trained the seeds of a recipe as "
            f"stacks of up to {STACK}; the times are those of one network.",
            describe(self.provenance),
            *(
                [f"Taken from history: {history} of {of['runs']} runs; --fresh does them anew."]
                if history
                else []
            ),
        ]

    def as_dict(self) -> dict[str, Any]:
        """What is for a program: a later comparison, above all."""
        return {
            "conditions": self.conditions,
            "provenance": self.provenance,
            "same": self.same,
            "accuracy": records(self.accuracy),
            "speed": records(self.speed),
        }

    def write(self, folder: Path, text: str, values: dict[str, Any]) -> None:
        """Write all files.

        Args:
            folder: where to.
            text: the content of comparison.md.
            values: that of comparison.json.
        """
        curves = tables.average_curves(tables.curves(self.finished))
        regions = average_regions(self.finished)
        first = self.finished[0].task
        train, test, _ = RECIPES[first.recipe].data(data_generator(first.seed))
        write_files(
            folder,
            {
                "comparison.md": text,
                "comparison.json": json.dumps(values, indent=2) + "\n",
                "accuracy.csv": self.accuracy,
                "accuracy.md": markdown(
                    readable_accuracy(self.accuracy), *verdict_sentences(self.accuracy)
                ),
                "speed.csv": self.speed,
                "speed.md": markdown(readable_speed(self.speed), *speed_sentences(self.speed)),
                "timings.csv": self.rounds,
                "learning_curves.csv": lambda path: curves.to_csv(
                    path, index=False, float_format="%.6g"
                ),
                "learning_curves.svg": lambda path: figures.save(figures.draw_curves(curves), path),
                "data.svg": lambda path: figures.save(figures.draw_data(train, test), path),
                "decision_regions.npz": lambda path: save_regions(regions, path),
                "decision_regions.svg": lambda path: figures.save(
                    figures.draw_regions(regions), path
                ),
            },
        )
