"""Data sets on disk: reading, checking, describing, sampling and loading them."""
