"""Do the tests notice? Each change of the lists beside this file is made in a copy, and the tests it names must fail.

usage: python tests/mutants/run.py [WORD ...] [--jobs 2] [--list] [--minutes 5] [--at-once]

A change that no test notices has survived: a fault of that kind would reach users unseen. Nothing of the checkout is
touched; the copies are thrown away. Exit codes: 0 all were killed, 1 some survived, 2 the lists or the tests are not
as they should be (a text is no longer found, a test fails without any change). Needs a system with fork.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTS = Path(__file__).resolve().parent
COPIED = ("medssl", "pointcloud", "pipelines", "tests", "configs", "data_manifests", "docs", "README.md")
COPIED += ("CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "constraints.txt")
FIELDS = {"name", "file", "text", "becomes", "why", "tests"}
KILLED, SURVIVED, TROUBLE = "killed", "SURVIVED", "TROUBLE"
PRELOADED = ("pytest", "hypothesis", "numpy", "scipy.stats", "torch", "monai.inferers", "sklearn.metrics")
_LATE = -1  # in place of pytest's exit code


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
        raise ValueError(
            f"{mutant.name}: {mutant.file}: the text is found {found} times in place of once; mend the list"
        )
    result = source.replace(mutant.text, mutant.becomes)
    try:
        compile(result, mutant.file, "exec")
    except SyntaxError as error:
        raise ValueError(f"{mutant.name}: {mutant.file}: what the text becomes is no Python ({error})") from error
    return result


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


def preload(cache: Path) -> None:
    """Import what is slow to import and is never changed; every test run is forked from here."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    os.environ.update(MPLBACKEND="Agg", PYTHONPYCACHEPREFIX=str(cache))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.pycache_prefix, sys.dont_write_bytecode = str(cache), False
    for name in PRELOADED:
        with suppress(ImportError):  # a test that needs it will say so
            __import__(name)


class TestRun:
    """Tests that run in a copy, in a process of their own.

    Args:
        copy: Where they run, and what they import.
        arguments: Of pytest.
        seconds: After which they are ended.
    """

    def __init__(self, copy: Path, arguments: Sequence[str], *, seconds: float) -> None:
        self._printed, self._until, self._seconds = copy / "printed.txt", time.monotonic() + seconds, seconds
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            self._child(copy, arguments)

    def _child(self, copy: Path, arguments: Sequence[str]) -> None:
        code = 3
        try:
            os.setsid()
            handle = os.open(self._printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.chdir(copy)
            os.environ["PYTHONPATH"] = str(copy)
            sys.path[:] = [str(copy), *(p for p in sys.path if Path(p or ".").resolve() not in (ROOT, LISTS))]
            import pytest

            fixed = ["-p", "no:cacheprovider", "-p", "no:xdist", "-rfE", "--tb=no", "-o", "addopts="]
            marks = ["-q", "-m", "not slow", "--import-mode=importlib", "-x"]
            code = int(pytest.main([*fixed, *marks, *arguments]))
            sys.stdout.flush()
        finally:
            os._exit(code)

    def ended(self) -> tuple[int, str] | None:
        """Return pytest's exit code (-1 where time ran out) and what it printed; None while it runs."""
        found, status = os.waitpid(self.process, os.WNOHANG)
        if found == 0 and time.monotonic() < self._until:
            return None
        if found == 0:
            self.stop()
            return _LATE, f"no end after {self._seconds:.0f} s"
        return os.waitstatus_to_exitcode(status), self._printed.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End the tests and what they started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.process, 0)


def together(tasks: Sequence[tuple[int, Sequence[str]]], copies: Sequence[Path], *, seconds: float) -> Iterator:
    """Run tasks, one a copy at a time; yield (number, copy, None) before each and (number, copy, result) after it.

    The one who asks changes the copy when told that a task is about to begin, and changes it back when it has ended.
    """
    waiting, free, running = list(tasks), list(copies), {}
    try:
        while waiting or running:
            while waiting and free:
                number, arguments = waiting.pop(0)
                copy = free.pop()
                yield number, copy, None
                running[number] = (TestRun(copy, arguments, seconds=seconds), copy)
            for number, (test_run, copy) in list(running.items()):
                result = test_run.ended()
                if result is not None:
                    del running[number]
                    yield number, copy, result
                    free.append(copy)
            time.sleep(0.05)
    finally:
        for test_run, _ in running.values():
            test_run.stop()


def unchanged(tests: Sequence[str], copies: Sequence[Path], *, seconds: float) -> str:
    """Run tests without any change; return what failed, "" where nothing did."""
    shares = [(n, tests[n :: len(copies)]) for n in range(min(len(copies), len(tests)))]
    failed = []
    for _, _, result in together(shares, copies, seconds=seconds):
        if result is not None and result[0] != 0:
            failed += _failures(result[1]) or [f"pytest ended with {result[0]}: {_last(result[1])}"]
    return "\n".join(failed)


def judged(mutants: Sequence[Mutant], copies: Sequence[Path], *, seconds: float) -> Iterator[Outcome]:
    """Make each change in a copy, run its tests, take it back, and yield what came of it."""
    originals: dict[int, tuple[Path, str]] = {}
    clock = 2_000_000_000  # bytecode is told by time and size alone: no two states of a file may have the same time
    tasks = [(number, mutant.tests) for number, mutant in enumerate(mutants)]
    for number, copy, result in together(tasks, copies, seconds=seconds):
        mutant, path, clock = mutants[number], copy / mutants[number].file, clock + 2
        if result is None:
            originals[number] = path, path.read_text(encoding="utf-8")
            path.write_text(changed(mutant, originals[number][1]), encoding="utf-8")
        else:
            path.write_text(originals[number][1], encoding="utf-8")
            yield _outcome(mutant, *result)
        os.utime(path, (clock, clock))


def _outcome(mutant: Mutant, code: int, printed: str) -> Outcome:
    if code == 0:
        return Outcome(mutant, SURVIVED, mutant.why)
    if code == 1:
        return Outcome(mutant, KILLED, next(iter(_failures(printed)), _last(printed)))
    return Outcome(mutant, TROUBLE, _last(printed) if code == _LATE else f"pytest ended with {code}: {_last(printed)}")


def _failures(printed: str) -> list[str]:
    found = [line for line in printed.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return [line.split(" - ")[0].split(" ", 1)[1] for line in found]


def _last(printed: str) -> str:
    return next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "nothing was printed")


def main(arguments: Sequence[str] | None = None, *, lists: Path = LISTS, root: Path = ROOT) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mutants whose name or file holds one of these")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--minutes", type=float, default=5.0, help="longest run of one mutant's tests (5)")
    parser.add_argument("--at-once", action="store_true", help="do not run the tests without any change first")
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
    return _all(mutants, root, jobs=max(1, asked.jobs), seconds=60 * asked.minutes, at_once=asked.at_once)


def _all(mutants: Sequence[Mutant], root: Path, *, jobs: int, seconds: float, at_once: bool) -> int:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="medssl-mutants-") as made:
        preload(Path(made) / "bytecode")
        copies = copies_of(root, Path(made), jobs)
        every = sorted({test for mutant in mutants for test in mutant.tests})
        failing = "" if at_once else unchanged(every, copies, seconds=seconds * 6)
        if failing:
            print(f"{failing}\nmutants: these tests fail without any change, so nothing can be told")
            return 2
        if not at_once:
            print(f"without any change the tests pass ({time.monotonic() - begun:.0f} s)", flush=True)
        outcomes = []
        for outcome in judged(mutants, copies, seconds=seconds):
            outcomes.append(outcome)
            by = " by " if outcome.result == KILLED else ": "
            print(f"{outcome.result:8} {outcome.mutant.name}{by}{outcome.said}", flush=True)
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
