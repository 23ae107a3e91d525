"""A file in, a verdict with evidence out."""
