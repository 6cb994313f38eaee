"""How far a long command is: a bar on standard error, in a terminal and nowhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Told = Callable[[int], None]
"""Takes how much more was done."""


class Steps:
    """The steps of a command, one at a time. Without a terminal it shows nothing."""

    def __init__(self, begin: Callable[[str, int | None], Told]) -> None:
        self._begin = begin

    def step(self, title: str, total: int | None = None) -> Told:
        """Begin a step; the one before is over. total: how much there is to do, None where nobody knows."""
        return self._begin(title, total)


@contextmanager
def shown_steps() -> Iterator[Steps]:
    """Steps that are shown while this lasts."""
    if not sys.stderr.isatty():
        yield Steps(lambda title, total: lambda done: None)
        return
    # Only a terminal needs rich, and it takes a while to import.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:9}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        current: list[TaskID] = []

        def begin(title: str, total: int | None) -> Told:
            for task in current:
                progress.update(task, total=1, completed=1)
            current[:] = [progress.add_task(title, total=total)]
            return lambda done: progress.advance(current[0], done)

        yield Steps(begin)
