"""The walks of docs/architecture.md: every arrow is there in the code, none goes up, and the hops are counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.test_imports import PACKAGES, ROOT, imported, layer_of

TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("## Four walks")[2].partition("\n## ")[0]
WALKS = dict(re.findall(r"^\* \*\*(.+?)\*\*(.+?)(?=^\* |^$)", SECTION, flags=re.MULTILINE | re.DOTALL))


def path_of(name: str) -> Path:
    return ROOT / (name if name.split("/")[0] in PACKAGES else f"medssl/{name}")


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def arrows(text: str) -> list[tuple[str, str, str]]:
    flat = " ".join(text.split())
    return re.findall(r"`([\w/]+\.py)` ([-=]>) (?=`([\w/]+\.py)`)", flat)


def depth(path: Path) -> int:
    package, room = path.relative_to(ROOT).parts[:2]
    return {"pipelines": 10, "pointcloud": 9}.get(package) or layer_of(room.removesuffix(".py"))


def test_there_are_four():
    assert len(WALKS) == 4


@pytest.mark.parametrize("walk", list(WALKS))
def test_every_arrow_is_there_and_none_goes_up(walk):
    hops = arrows(WALKS[walk])
    assert len(hops) == int(re.search(r", (\d+) hops:", WALKS[walk])[1])
    every = [path for package in PACKAGES[:2] for path in (ROOT / package).rglob("*.py")]
    for source, kind, target in hops:
        here, there = path_of(source), path_of(target)
        module = dotted(there)
        names = {f"{name}." for _, name in imported(here)}
        if kind == "->":
            assert any(name == dotted(there) or name.startswith(f"{dotted(there)}.") for name in names), (
                source,
                target,
            )
        else:
            assert any(f'"{module}.' in path.read_text(encoding="utf-8") for path in every), (source, target)
        assert depth(there) <= depth(here), (source, target)
