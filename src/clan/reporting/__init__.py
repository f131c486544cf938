"""Tables and pictures in, text and files out."""
