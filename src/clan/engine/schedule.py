"""Learning rates as pure functions of the iteration (SPEC section 4)."""

from clan.config import Schedule


def learning_rate(base: float, iteration: int, *, schedule: Schedule, total: int, warmup: int, power: float) -> float:
    """The rate at an iteration.

    Args:
        base: the full rate.
        iteration: i = 0…total−1.
        schedule: "warmup-poly" rises linearly from 0 over `warmup` iterations and decays from there on as
            "poly" does, base·(1 − i/total)^power; "constant" stays.
        total: N.
        warmup: iterations of the rise.
        power: exponent of the decay.
    """
    if schedule == "constant":
        return base
    if schedule == "warmup-poly" and iteration < warmup:
        return base * iteration / warmup
    return base * (1.0 - iteration / total) ** power
