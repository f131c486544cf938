"""The machinery of training: loop, optimizers, schedules, state, devices."""
