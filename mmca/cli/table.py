"""Tables on the terminal."""

from collections.abc import Iterable, Sequence


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows of text, aligned on the left, and of int and float, aligned on the right."""
    from rich.console import Console
    from rich.table import Table

    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(header):
        numbers = all(isinstance(row[index], (int, float)) for row in rows)
        table.add_column(name, justify='right' if numbers else 'left', overflow='fold')
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a file or a pipe has no width
        console = Console(width=400, highlight=False, markup=False)
    console.print(table)
