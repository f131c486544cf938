"""Bar charts of shares as text, coloured on a terminal."""

from collections.abc import Sequence

WIDTH = 40
"""Characters of the longest bar."""


def print_bars(names: Sequence[str], shares: Sequence[float], colors: Sequence[tuple[int, int, int]]) -> None:
    """Prints one line per name with a bar, relative to the largest share, and the share in percent.

    Args:
        names: labels of the bars.
        shares: 0…1 each.
        colors: RGB of each, 0…255, used on a terminal.
    """
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    largest = max([*shares, 1e-12])
    for name, share, (red, green, blue) in zip(names, shares, colors, strict=True):
        length = max(8 * WIDTH * share / largest, share > 0)  # eighths of a character, at least 1 for a share above 0
        drawn = Bar(8 * WIDTH, 0, length, width=WIDTH, color=f"rgb({red},{green},{blue})")
        table.add_row(f"  {name}", drawn, _percent(share))
    console = Console(highlight=False)
    console.print(table, markup=False, width=None if console.is_terminal else 200)  # a file has no width


def _percent(share: float) -> str:
    if share == 0:
        return "never"
    return f"{100 * share:6.2f} %" if share >= 0.0001 else f"{100 * share:6.4f} %"
