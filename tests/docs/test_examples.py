"""Examples and notebooks run as they stand, each in an empty folder and a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("notebooks/*.ipynb"))


def run(code: Path, folder: Path, *words: str) -> str:
    room = os.environ | {"OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, str(code), *words], cwd=folder, env=room, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr[-3000:]
    return told.stdout


def test_simclr_on_one_screen(tmp_path):
    assert "a view finds its other view" in run(EXAMPLES / "simclr_from_parts.py", tmp_path, "2")
    assert len((EXAMPLES / "simclr_from_parts.py").read_text(encoding="utf-8").splitlines()) < 90


@pytest.mark.slow
def test_few_labels(tmp_path):
    assert "case_" in run(EXAMPLES / "few_labels.py", tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebook(notebook, tmp_path):
    """Run the cells one after another, as one plain script: no guard of `__main__` is needed."""
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells), "a notebook is kept without what it printed"
    source = "\n".join("".join(cell["source"]) for cell in cells)
    code = tmp_path / "cells.py"
    code.write_text(source, encoding="utf-8")
    (tmp_path / "room").mkdir()
    run(code, tmp_path / "room")
