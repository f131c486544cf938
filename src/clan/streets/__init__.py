"""Two drawn street worlds, for the demo and for tests."""
