"""Modules that go along with an export as they are: they import NumPy and one another, and nothing of this project."""
