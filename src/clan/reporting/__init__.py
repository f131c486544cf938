"""Report pages, galleries and figures."""
