"""`clan inspect`: disagreement of heads, alignment of features."""
