"""Where tables are printed."""

from rich.console import Console


def table_console(piped_width: int) -> Console:
    """Return the terminal, or a wide page: a table in a file or a pipe is not folded.

    Args:
        piped_width: Width of the page in characters.
    """
    console = Console()
    return console if console.is_terminal else Console(width=piped_width)
