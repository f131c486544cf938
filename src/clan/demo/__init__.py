"""Two procedural street worlds, and what adapting between them gives."""
