"""Inference and scores: label maps, predictions, IoU, tables."""
