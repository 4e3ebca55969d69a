"""Do the tests notice? Each change of the lists beside this file is made in a copy, and the tests it names must fail.

usage: python tests/mutants/run.py [WORD ...] [--jobs 2] [--list] [--minutes 5]

A change that no test notices has survived: a fault of that kind would reach users unseen. Nothing of the checkout is
touched; the copies are thrown away. Exit codes: 0 all were killed, 1 some survived, 2 the lists or the tests are not
as they should be (a text is no longer found, a test fails without any change).
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTS = Path(__file__).resolve().parent
COPIED = ("medssl", "pointcloud", "pipelines", "tests", "configs", "data_manifests", "docs", "pyproject.toml")
FIELDS = {"name", "file", "text", "becomes", "why", "tests"}
KILLED, SURVIVED, TROUBLE = "killed", "SURVIVED", "TROUBLE"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change: in ``file`` the ``text``, found once, ``becomes`` another; ``tests`` (node ids) must notice."""

    name: str
    file: str
    text: str
    becomes: str
    why: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of one mutant; ``said`` is the test that noticed, or what went wrong."""

    mutant: Mutant
    result: str
    said: str
    seconds: float


def read_lists(folder: Path = LISTS) -> list[Mutant]:
    """Return the mutants of all ``*.toml`` in a folder.

    Raises:
        ValueError: A row lacks a field, has one too many, or has the name of another.
    """
    rows: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            if set(row) != FIELDS or not row["tests"] or row["text"] == row["becomes"]:
                raise ValueError(f"{path.name}: {row.get('name', row)}: every row has {', '.join(sorted(FIELDS))}")
            rows.append(Mutant(**{**row, "tests": tuple(row["tests"])}))
    names = [mutant.name for mutant in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"two mutants have one name: {sorted({n for n in names if names.count(n) > 1})}")
    return rows


def changed(mutant: Mutant, source: str) -> str:
    """Return the source with the change made.

    Raises:
        ValueError: The text is not found exactly once, or what it becomes is no Python.
    """
    found = source.count(mutant.text)
    if found != 1:
        raise ValueError(f"{mutant.file}: the text is found {found} times in place of once; mend the list")
    result = source.replace(mutant.text, mutant.becomes)
    try:
        compile(result, mutant.file, "exec")
    except SyntaxError as error:
        raise ValueError(f"{mutant.file}: what the text becomes is no Python ({error})") from error
    return result


def environment(copy: Path, cache: Path) -> dict[str, str]:
    """Return the environment of a test run that imports the copy, and keeps its bytecode elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**kept, **one, "PYTHONPATH": str(copy), "PYTHONPYCACHEPREFIX": str(cache)}


def run_tests(
    tests: Sequence[str], copy: Path, cache: Path, *, seconds: float, more: Sequence[str] = ()
) -> tuple[int, str]:
    """Run tests in a copy; return pytest's exit code (-1: out of time) and what it printed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfE", "--tb=no", *more, *tests]
    try:
        around = environment(copy, cache)
        done = subprocess.run(
            command, cwd=copy, env=around, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end after {seconds:.0f} s"
    return done.returncode, done.stdout + done.stderr


def judge(mutant: Mutant, copy: Path, cache: Path, number: int, *, seconds: float) -> Outcome:
    """Make the change in a copy, run its tests, and take the change back."""
    begun, path = time.monotonic(), copy / mutant.file
    try:
        original = path.read_text(encoding="utf-8")
        path.write_text(changed(mutant, original), encoding="utf-8")
    except (OSError, ValueError) as error:
        return Outcome(mutant, TROUBLE, str(error), 0.0)
    # Bytecode is told by time and size alone: no two states of a file may have the same.
    os.utime(path, (2e9 + 2 * number, 2e9 + 2 * number))
    try:
        code, printed = run_tests(mutant.tests, copy, cache, seconds=seconds, more=["-x"])
    finally:
        path.write_text(original, encoding="utf-8")
        os.utime(path, (2e9 + 2 * number + 1, 2e9 + 2 * number + 1))
    took = time.monotonic() - begun
    if code == 0:
        return Outcome(mutant, SURVIVED, mutant.why, took)
    if code in (1, -1):
        return Outcome(mutant, KILLED, _first_failure(printed), took)
    last = [line for line in printed.splitlines() if line.strip()][-3:]
    return Outcome(mutant, TROUBLE, f"pytest ended with {code}: " + " / ".join(last), took)


def _first_failure(printed: str) -> str:
    for line in printed.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            return line.split(" - ")[0].split(" ", 1)[1]
    return printed.strip().splitlines()[-1] if printed.strip() else ""


def copies_of(root: Path, folder: Path, count: int) -> list[Path]:
    """Return ``count`` copies of what the tests need."""
    copies = []
    for number in range(count):
        copy = folder / f"copy{number}"
        copy.mkdir()
        for name in COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            elif source.is_file():
                shutil.copy2(source, copy / name)
        copies.append(copy)
    return copies


def run(mutants: Sequence[Mutant], root: Path, *, jobs: int, seconds: float) -> tuple[list[Outcome], str]:
    """Judge all mutants; return the outcomes, and what failed without any change ("" where nothing did)."""
    with tempfile.TemporaryDirectory(prefix="medssl-mutants-") as made:
        folder = Path(made)
        copies, cache = copies_of(root, folder, jobs), folder / "bytecode"
        every = sorted({test for mutant in mutants for test in mutant.tests})
        begun = time.monotonic()
        workers = ["-n", str(jobs)] if jobs > 1 else []
        code, printed = run_tests(every, copies[0], cache, seconds=seconds * 6, more=workers)
        if code:
            failed = [line for line in printed.splitlines() if line.startswith(("FAILED", "ERROR"))]
            return [], "\n".join(failed or printed.splitlines()[-5:])
        print(f"without any change the tests pass ({len(every)} named, {time.monotonic() - begun:.0f} s)", flush=True)
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for copy in copies:
            free.put(copy)

        def one(numbered: tuple[int, Mutant]) -> Outcome:
            copy = free.get()
            try:
                outcome = judge(numbered[1], copy, cache, numbered[0], seconds=seconds)
            finally:
                free.put(copy)
            said = f": {outcome.said}" if outcome.result != KILLED else f" by {outcome.said}"
            print(f"{outcome.result:8} {outcome.mutant.name} ({outcome.seconds:.0f} s){said}", flush=True)
            return outcome

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, enumerate(mutants))), ""


def main(arguments: Sequence[str] | None = None, *, lists: Path = LISTS, root: Path = ROOT) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mutants whose name or file holds one of these")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--minutes", type=float, default=5.0, help="longest run of one mutant's tests (5)")
    parser.add_argument("--list", action="store_true", help="print the list and run nothing")
    asked = parser.parse_args(arguments)
    try:
        mutants = read_lists(lists)
        mutants = [m for m in mutants if not asked.words or any(w in m.name or w in m.file for w in asked.words)]
        for mutant in mutants:
            changed(mutant, (root / mutant.file).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        print(f"mutants: {error}")
        return 2
    if asked.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.file}\n    {mutant.why}\n    killed by: {' '.join(mutant.tests)}")
    if asked.list or not mutants:
        print(f"{len(mutants)} mutants in {len(list(lists.glob('*.toml')))} lists")
        return 0 if mutants else 2
    begun = time.monotonic()
    outcomes, failing = run(mutants, root, jobs=max(1, asked.jobs), seconds=60 * asked.minutes)
    if failing:
        print(f"{failing}\nmutants: these tests fail without any change, so nothing can be told")
        return 2
    survived = [o.mutant.name for o in outcomes if o.result == SURVIVED]
    trouble = [o.mutant.name for o in outcomes if o.result == TROUBLE]
    killed = len(outcomes) - len(survived) - len(trouble)
    last = f"{len(outcomes)} mutants: {killed} killed, {len(survived)} survived"
    last += f", {len(trouble)} could not be judged" if trouble else ""
    names = ": " + ", ".join([*survived, *trouble]) if survived or trouble else ""
    print(f"{last} ({time.monotonic() - begun:.0f} s){names}")
    return 2 if trouble else 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
