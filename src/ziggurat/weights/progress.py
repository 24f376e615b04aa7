"""A bar on the terminal while a file is downloaded; silent everywhere else."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from ziggurat.weights.download import Progress


@contextmanager
def download_bar(name: str) -> Iterator[Progress]:
    """Show how a download advances, on stderr, if that is a terminal.

    Args:
        name: What is downloaded.

    Yields:
        What `fetch` takes as `on_progress`.
    """
    console = Console(stderr=True)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bars:
        # Not shown before the first byte: a file that is in the cache needs no bar.
        task = bars.add_task(name, total=None, visible=False)

        def advance(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total, visible=True)

        yield advance
