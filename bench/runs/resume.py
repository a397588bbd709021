"""The sweep with its history: what was done before is taken from it, what is missing is done."""

from collections.abc import Sequence

from rich.progress import Progress

from bench.runs.cluster import processors, train_on_cluster
from bench.runs.store import History
from bench.runs.sweep import Finished, Settings, Task, environment, partition, train

__all__ = ["resume"]


def resume(
    tasks: Sequence[Task],
    settings: Settings,
    history: History,
    progress: Progress,
    jobs: int,
    scheduler: str | None = None,
    fresh: bool = False,
) -> tuple[list[Finished], int]:
    """Return the runs of ``tasks``, in their order, and how many of them are from the history.

    Args:
        tasks: what to do.
        settings: of all runs.
        history: where each part is kept as soon as it is done.
        progress: gets a bar; it counts percent of the time that is left at the beginning.
        jobs: processes on this machine.
        scheduler: address of a Dask scheduler, to do the runs on its workers. Default: none.
        fresh: do all runs anew; they take the place of the earlier ones in the history.
    """
    parts = partition(tasks, settings)
    machines = processors(scheduler) if scheduler else [environment()["processor"]]
    known = {} if fresh else history.find(parts, settings, machines)
    missing = [part for part in parts if part not in known]
    finished = {run.task: run for runs in known.values() for run in runs}
    taken = len(finished)
    note = f" ({taken} of {len(tasks)} runs are from the history)" if taken else ""
    bar = progress.add_task(f"training{note}", total=100)
    cost = sum(part.cost(settings) for part in missing)
    trained = (
        train_on_cluster(scheduler, missing, settings)
        if scheduler
        else train(missing, settings, jobs)
    )
    for done in trained:
        history.add(done, settings)
        finished |= {run.task: run for run in done.runs}
        progress.advance(bar, 100 * done.part.cost(settings) / cost)
    progress.update(bar, completed=100)
    return [finished[task] for task in tasks], taken
