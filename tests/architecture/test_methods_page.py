"""docs/methods.md has a row for every method, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

from medssl.methods.table import METHODS
from pointcloud.methods.table import CLOUD_METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `(\w+)` \|(.*)\|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_method_has_one_row_that_names_a_test() -> None:
    rows = [(name, rest) for name, rest in _ROW.findall(PAGE) if rest.count(" | ") >= 3]
    assert sorted(name for name, _ in rows) == sorted([*METHODS, *CLOUD_METHODS])
    bare = [name for name, rest in rows if not _TEST.search(rest)]
    assert not bare, f"no test is named for {bare}"


def test_the_papers_are_those_of_the_table() -> None:
    rows = dict(_ROW.findall(PAGE))
    for name in METHODS:
        ids = set(re.findall(r"arXiv:(\d+\.\d+)", METHODS.row(name).paper))
        lacking = (
            ids - set(re.findall(r"(\d{4}\.\d{5})", rows[name])) if name not in ("voco_masked", "joined") else set()
        )
        assert not lacking, f"{name}: {lacking}"


def test_named_tests_exist() -> None:
    named = _TEST.findall(PAGE)
    assert len(named) >= len(METHODS)
    for file, function in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {function}\(", text, re.MULTILINE), f"{file}::{function}"


def test_every_method_has_its_signal() -> None:
    """The table of signals names a preset of every method."""
    measured = set(re.findall(r"^\| `?(\w+)_small`? \|", PAGE, re.MULTILINE))
    assert set(METHODS) | set(CLOUD_METHODS) <= measured
