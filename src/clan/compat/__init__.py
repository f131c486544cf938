"""The five commands of the seed, on the same functions as `clan`."""
