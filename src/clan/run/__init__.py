"""A run: its configuration, the presets, its folder, states and records."""
