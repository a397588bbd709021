"""The result of a comparison: tables, sentences and files derived from runs and timings."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import figures
from bench.accuracy.tables import format_accuracy, verdict_sentences
from bench.cli.files import markdown, records, write_files
from bench.cli.provenance import describe
from bench.runs import tables
from bench.runs.regions import average_regions, save_regions
from bench.runs.sweep import STACK, Finished
from bench.timing.recipes import format_speed, speed_sentences
from reference.recipes import RECIPES
from reference.run import data_generator

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """Everything that a comparison measured.

    Attributes:
        finished: the runs.
        rounds: all timed rounds, as :func:`bench.timing.recipes.time_recipe` gives them.
        accuracy: as :func:`bench.accuracy.statistics.accuracy_statistics` gives it.
        speed: as :func:`bench.timing.recipes.summarize_speed` gives it.
        conditions: the settings, and the numbers of runs, rounds and processes.
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
        """Whether no difference between the frameworks was found.

        There is one if a recipe was not timed because its steps differ, or if accuracies from the
        same initial weights are "different".
        """
        different = (self.accuracy["difference_verdict"] == "different").any()
        from_one_start = self.conditions["initialization"] == "recipe"
        return bool(self.speed["ratio"].notna().all()) and not (from_one_start and different)

    def table(self) -> pd.DataFrame:
        """The human-readable table."""
        return tables.format_runs(self.accuracy, self.speed)

    def sentences(self) -> list[str]:
        """The verdicts, and how and on which machine they were reached."""
        conditions = self.conditions
        epochs = conditions["epochs"] or "each recipe's own number of"
        stored = conditions["runs_from_history"]
        return [
            *verdict_sentences(self.accuracy),
            *speed_sentences(self.speed),
            "Brackets hold 95 % intervals: of a mean by the BCa bootstrap, of a median ratio by "
            "the sign test. ms/epoch: minifw / PyTorch.",
            f"Run with torch {self.provenance['torch']}, {conditions['dtype']} on "
            f"{conditions['device']}, {conditions['jobs']} process(es) of {conditions['threads']} "
            f"thread(s), {epochs} epochs, {conditions['rounds']} timed rounds, "
            f"initial weights by {conditions['initialization']}. minifw trained the seeds of a "
            f"recipe as stacks of up to {STACK}; times are of one network.",
            describe(self.provenance),
            *(
                [
                    f"Read from the store: {stored} of {conditions['runs']} runs; "
                    "--fresh repeats them."
                ]
                if stored
                else []
            ),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values, for comparison.json and later comparisons."""
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
            folder: the output folder.
            text: content of comparison.md.
            values: content of comparison.json.
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
                    format_accuracy(self.accuracy), *verdict_sentences(self.accuracy)
                ),
                "speed.csv": self.speed,
                "speed.md": markdown(format_speed(self.speed), *speed_sentences(self.speed)),
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
