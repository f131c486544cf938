"""Confusion matrices and what is read from them."""
