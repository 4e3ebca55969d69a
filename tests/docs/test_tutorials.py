"""Every tutorial is run line by line, as a reader would: its blocks of commands in a shell, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).resolve().parents[2] / "docs/tutorials").glob("*.md"))


def commands(page: Path) -> str:
    """Return what stands in the blocks of commands of a page."""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


def test_each_page_has_commands():
    assert TUTORIALS
    for page in TUTORIALS:
        assert commands(page).count("medssl ") >= 4, page.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", TUTORIALS, ids=[page.stem for page in TUTORIALS])
def test_runs_line_by_line(page, tmp_path):
    bin_ = Path(sys.executable).parent
    room = os.environ | {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        ["bash", "-eu", "-c", commands(page)], cwd=tmp_path, env=room, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, f"{told.stdout[-3000:]}\n{told.stderr[-3000:]}"
