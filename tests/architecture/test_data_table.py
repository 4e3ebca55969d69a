"""docs/data.md promises layouts and formats; each of its rows names a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\|(?!\s*-|-)(.+)\|\s*$")


def _rows() -> list[tuple[int, list[str]]]:
    lines = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    rows = [(n, [cell.strip() for cell in re.split(r"(?<!\\)\|", m[1])]) for n, line in enumerate(lines, 1)
            if (m := _ROW.match(line))]  # fmt: skip
    return [(n, cells) for n, cells in rows if cells[-1] != "test"]


def test_every_row_names_a_test_that_is_there() -> None:
    for line, cells in _rows():
        assert len(cells) == 4, f"docs/data.md:{line} has {len(cells)} cells"
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cells[-1])
        assert named, f"docs/data.md:{line} names no test"
        for file, function in named:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert any(isinstance(node, ast.FunctionDef) and node.name == function for node in ast.walk(tree)), (
                f"docs/data.md:{line}: {file} has no {function}"
            )
