"""The training loop with its optimizers, records and displays."""
