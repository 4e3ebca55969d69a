"""The examples in docstrings say what happens: each module's are run, and what they print is compared."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("medssl", "pointcloud", "pipelines")
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_hold(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example that wrote a file would leave it there
    said: list[str] = []
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    runner = doctest.DocTestRunner(verbose=False)
    for example in found:
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)
    assert runner.tries > 0 or all("+SKIP" in one.docstring for one in found if ">>> " in one.docstring)
    assert not list(tmp_path.iterdir())


def test_a_stale_example_is_noticed():
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    stale = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "stale", None, 0)
    assert runner.run(stale, out=said.append).failed == 1
    assert len(WITH_EXAMPLES) > 40
