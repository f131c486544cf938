"""Bar charts of shares as text, coloured on a terminal."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

WIDTH = 40
"""Characters of the longest bar."""


def print_bars(
    names: Sequence[str],
    shares: Sequence[float],
    colors: Sequence[tuple[int, int, int]],
    columns: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Prints one line per name with a bar, relative to the largest share, and the share in percent.

    Args:
        names: labels of the bars.
        shares: 0…1 each.
        colors: RGB of each, 0…255, used on a terminal.
        columns: further columns by title, a text per name; without any, there is no row of titles.
    """
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    largest = max([*shares, 1e-12])
    if columns:
        table.add_row("", "", "pixels", *columns)
    for name, share, (red, green, blue), *texts in zip(names, shares, colors, *columns.values(), strict=True):
        length = max(8 * WIDTH * share / largest, share > 0)  # eighths of a character, at least 1 for a share above 0
        drawn = Bar(8 * WIDTH, 0, length, width=WIDTH, color=f"rgb({red},{green},{blue})")
        table.add_row(f"  {name}", drawn, percent(share), *texts)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file has no width
    console.print(table, markup=False)


def percent(share: float) -> str:
    """Formats a share 0…1 in percent, aligned; 0 as "never"."""
    if share == 0:
        return "never"
    return f"{100 * share:6.2f} %" if share >= 0.0001 else f"{100 * share:6.4f} %"
