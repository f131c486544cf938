"""Networks, and reading and writing their weights."""
