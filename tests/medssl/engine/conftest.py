"""The tiny method, for every test of the engine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture
def real_pictures():
    """Ask for progress.png and views.png to be drawn."""


@pytest.fixture(autouse=True)
def _quick(request, monkeypatch):
    """Leave pictures out, which would take most of the time of these tests, unless a test asks for them."""
    if "real_pictures" not in request.fixturenames:
        import medssl.engine.reporter

        for name in ("draw_progress", "draw_views"):
            monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)


@pytest.fixture(scope="session")
def tiny():
    """Return the module ``tiny.py`` beside this file; its ``__file__`` can be run as a process."""
    if "engine_tiny" not in sys.modules:
        spec = importlib.util.spec_from_file_location("engine_tiny", Path(__file__).with_name("tiny.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules["engine_tiny"] = module
        spec.loader.exec_module(module)
    return sys.modules["engine_tiny"]
