"""The modules of ``exporting/alone`` as text: they go along with exports to machines without this project."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["standing_alone"]


def standing_alone(name: str) -> str:
    """Return the text of a module that needs NumPy and one another alone, such as "medssl_input.py"."""
    return files("medssl.exporting.alone").joinpath(name).read_text(encoding="utf-8")
