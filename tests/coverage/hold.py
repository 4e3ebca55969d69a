"""Is each room still tested as much as it was? Run the fast tests and hold the share of lines that ran to its floor.

usage: python tests/coverage/hold.py [--jobs 2] [--write] [--from FOLDER] [TESTS ...]

Floors stand in floors.toml beside this file, in per cent, one a room. ``--write`` raises them to one below what
was measured, and never lowers one: a floor is lowered by hand, with a reason. ``--from`` takes what an earlier run
measured, in FOLDER.
Exit codes: 0 every room is at its floor, 1 one is below it, 2 the tests failed or nothing was measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLOORS = Path(__file__).resolve().parent / "floors.toml"
PACKAGES = ("medssl", "pointcloud", "pipelines")


def room_of(file: str) -> str:
    """Return the room of a file: ``medssl.store`` for medssl/store/read.py, ``medssl`` for medssl/queue.py."""
    parts = Path(file).parts
    first = next(n for n, part in enumerate(parts) if part in PACKAGES)
    return ".".join(parts[first : first + 2]) if len(parts) > first + 2 else parts[first]


def shares(report: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, float]:
    """Return the share of lines that ran in each room, in per cent, of the ``files`` of coverage's JSON report."""
    ran: defaultdict[str, int] = defaultdict(int)
    there: defaultdict[str, int] = defaultdict(int)
    for file, facts in report.items():
        ran[room_of(file)] += facts["summary"]["covered_lines"]
        there[room_of(file)] += facts["summary"]["num_statements"]
    return {room: 100 * ran[room] / lines for room, lines in sorted(there.items()) if lines}


def below(found: Mapping[str, float], floors: Mapping[str, float]) -> list[str]:
    """Return a line for each room under its floor, or of which nothing was measured."""
    return [
        f"{room}: {found.get(room, 0.0):.1f} % of the lines ran, and its floor is {floor} %"
        for room, floor in sorted(floors.items())
        if found.get(room, 0.0) < floor
    ]


def measure(folder: Path, tests: Sequence[str], jobs: int) -> int:
    """Run the fast tests with coverage, data into a folder; return pytest's exit code."""
    rules = folder / "rules.ini"
    source = ",".join(str(ROOT / package) for package in PACKAGES)
    rules.write_text(
        f"[run]\nsource = {source}\nparallel = true\npatch = subprocess, _exit\nsigterm = true\n"
        f"concurrency = multiprocessing, thread\ndata_file = {folder / 'data'}\n",
        encoding="utf-8",
    )
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = ["run", f"--rcfile={rules}", "-m", "pytest", "-n", str(jobs), *tests]
    return subprocess.run([sys.executable, "-m", "coverage", *command], cwd=ROOT, env=os.environ | one).returncode


def report_of(folder: Path) -> dict[str, float]:
    """Return the shares of what was measured into a folder; none where nothing was."""
    if not [*folder.glob("data*")]:
        return {}
    around = os.environ | {"COVERAGE_FILE": str(folder / "data")}
    for words in (["combine", "--keep", "-q", str(folder)], ["json", "-q", "-i", "-o", str(folder / "report.json")]):
        subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, env=around, check=True)
    return shares(json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"])


def read_floors() -> dict[str, float]:
    """Return the floor of each room."""
    return dict(tomllib.loads(FLOORS.read_text(encoding="utf-8"))["floors"]) if FLOORS.is_file() else {}


def write_floors(found: Mapping[str, float]) -> None:
    """Raise floors to one per cent below what was found, in whole per cent; lower none."""
    floors = read_floors()
    for room, share in found.items():
        floors[room] = max(floors.get(room, 0), math.floor(share) - 1)
    lines = [
        "# Per cent of the lines of each room that the fast tests run at least: python tests/coverage/hold.py --write."
    ]
    lines.append("# One below what a whole run of them found, for some skip where the real data are not.")
    lines += ["", "[floors]", *(f'"{room}" = {floor}' for room, floor in sorted(floors.items()))]
    FLOORS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", help="tests to run; all fast ones by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--write", action="store_true", help="raise the floors to what is measured")
    parser.add_argument("--from", dest="folder", type=Path, help="take what was measured into this folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medssl-coverage-") as made:
        folder = asked.folder or Path(made)
        code = 0 if asked.folder else measure(folder, asked.tests, asked.jobs)
        found = report_of(folder)
    if code or not found:
        print(f"coverage: the tests ended with {code}" if code else "coverage: nothing was measured")
        return 2
    if asked.write:
        write_floors(found)
    floors = read_floors()
    for room, share in found.items():
        print(f"{room:24} {share:5.1f} %  floor {floors.get(room, 0)} %")
    low = below(found, floors)
    print("\n".join(low) if low else f"coverage: {len(found)} rooms, none below its floor")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
