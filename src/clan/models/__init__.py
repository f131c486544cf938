"""The networks, and their weights on disk."""
