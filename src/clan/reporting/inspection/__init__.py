"""clan inspect: where heads disagree, how features align."""
