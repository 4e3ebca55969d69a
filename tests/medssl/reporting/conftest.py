"""What several sections of a report are tested with."""

from __future__ import annotations

import pytest


@pytest.fixture
def interval():
    """Return an interval as `evaluate` writes it."""

    def made(estimate, low, high, *, cases=9):
        return {"estimate": estimate, "low": low, "high": high, "level": 0.95, "cases": cases, "draws": 1,
                "method": "percentile"}  # fmt: skip

    return made
