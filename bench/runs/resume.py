"""A resumable sweep: finished runs are read from the store, missing ones are made."""

from collections.abc import Sequence

from rich.progress import Progress

from bench.runs.cluster import processors, train_on_cluster
from bench.runs.store import RunStore
from bench.runs.sweep import Finished, Settings, Task, environment, partition, train

__all__ = ["resume"]


def resume(
    tasks: Sequence[Task],
    settings: Settings,
    store: RunStore,
    progress: Progress,
    jobs: int,
    scheduler: str | None = None,
    fresh: bool = False,
) -> tuple[list[Finished], int]:
    """Return the runs of ``tasks``, in their order, and how many were read from the store.

    Args:
        tasks: the runs to make.
        settings: of all runs.
        store: keeps each part as soon as it is finished.
        progress: shows a bar, in percent of the time left at the start.
        jobs: processes on this machine.
        scheduler: address of a Dask scheduler whose workers make the runs. Default: none.
        fresh: repeat all runs and replace the stored ones.
    """
    parts = partition(tasks, settings)
    machines = processors(scheduler) if scheduler else [environment()["processor"]]
    known = {} if fresh else store.find(parts, settings, machines)
    if store.damaged:
        progress.console.print(
            f"{len(store.damaged)} damaged rows of the store are not believed; their runs are made "
            "again",
            highlight=False,
        )
    missing = [part for part in parts if part not in known]
    taken = sum(len(part.seeds) for part in known)
    finished: dict[Task, Finished] = {}
    note = f" ({taken} of {len(tasks)} runs are in the store)" if taken else ""
    bar = progress.add_task(f"training{note}", total=100)
    cost = sum(part.cost(settings) for part in missing)
    trained = (
        train_on_cluster(scheduler, missing, settings)
        if scheduler
        else train(missing, settings, jobs)
    )
    for done in trained:
        store.add(done, settings)
        finished |= {run.task: run for run in done.runs}
        progress.advance(bar, 100 * done.part.cost(settings) / cost)
    progress.update(bar, completed=100)
    finished |= {run.task: run for run in store.read(known, settings)}
    return [finished[task] for task in tasks], taken
