"""A page and an HTTP endpoint for a trained network on this machine, and the same page as one file without a server."""
