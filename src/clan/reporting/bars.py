"""Shares as a chart of bars, coloured on a terminal, plain elsewhere."""

import sys
from collections.abc import Sequence

WIDTH = 40
"""Characters of the longest bar."""

EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_bars(names: Sequence[str], shares: Sequence[float], colors: Sequence[tuple[int, int, int]]) -> None:
    """Prints a line per name: its bar, as long as its share of the largest one, and its share in percent.

    Args:
        names: what the bars are called.
        shares: 0…1 each.
        colors: RGB of each, used on a terminal.
    """
    from rich.cells import cell_len  # here: scores import without a terminal library

    # A Chinese character takes two columns of a terminal.
    largest, wide = max([*shares, 1e-12]), max(map(cell_len, names), default=0)
    lines = [
        (
            f"  {name}{' ' * (wide - cell_len(name))}  ",
            bar(share / largest),
            f"  {'never' if share == 0 else _percent(share)}",
        )
        for name, share in zip(names, shares, strict=True)
    ]
    if not sys.stdout.isatty():
        for parts in lines:
            print("".join(parts))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for (before, drawn, after), (red, green, blue) in zip(lines, colors, strict=True):
        console.print(Text.assemble(before, (drawn, f"rgb({red},{green},{blue})"), after))


def bar(fraction: float) -> str:
    """A bar of `WIDTH` characters, filled to an eighth of one; what is not nothing shows."""
    eighths = max(round(8 * WIDTH * fraction), int(fraction > 0))
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).strip().ljust(WIDTH)


def _percent(share: float) -> str:
    if share == 0:
        return "never"
    return f"{100 * share:6.2f} %" if share >= 0.0001 else f"{100 * share:6.4f} %"
