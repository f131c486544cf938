"""Networks, and reading and writing their weights."""

from typing import Literal

OutputStride = Literal[8, 16, 32]
"""Input resolution / resolution of the last features."""
