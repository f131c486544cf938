"""Losses as pure functions of tensors; docs/method.md has the formulas."""
