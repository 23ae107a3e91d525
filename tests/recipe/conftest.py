"""Fixtures of a network that learns in seconds."""

from tests.train.faces import faces_file, tiny

__all__ = ["faces_file", "tiny"]
