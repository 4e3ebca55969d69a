"""Imports run one way: pipelines -> pointcloud -> medssl, and inside medssl downwards through the layers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The same table as docs/architecture.md, as a test below checks.
LAYERS: dict[int, set[str]] = {
    8: {"chains"},
    7: {"workflows"},
    6: {"reporting", "exporting", "weights", "volumes"},
    5: {"tasks", "loading", "placement", "store", "reduction"},
    4: {"engine", "manifest", "domains"},
    3: {"methods", "formats", "phantoms", "evaluation"},
    2: {"objectives", "views", "encoders", "decoder", "heads", "teacher", "queue"},
    1: {
        "errors",
        "presets",
        "settings",
        "setting_errors",
        "setting_choices",
        "geometry",
        "randomness",
        "windows",
        "batch",
        "item_orders",
        "step_loader",
        "pool",
        "worker",
        "workers",
        "refusing",
        "quoting",
        "local_places",
        "failure_notes",
        "command",
        "file_sums",
        "writing",
        "locking",
        "sheet",
        "table",
        "suffixes",
        "extras",
        "plain_yaml",
        "listings",
        "array_headers",
        "cloud_picture",
        "gathering",
        "prediction",
        "input_schemes",
        "normalising",
        "regions",
        "synchronised_norm",
        "nameless",
        "spreadsheet",
    },
}
# Within a layer a room may import only these.
SIDEWAYS: set[tuple[str, str]] = {
    ("loading", "store"),
    ("loading", "placement"),
    ("placement", "store"),
    ("tasks", "store"),
    ("tasks", "loading"),
    ("tasks", "placement"),
    ("exporting", "reporting"),
    ("domains", "engine"),
    ("domains", "manifest"),
    ("volumes", "exporting"),
    ("phantoms", "formats"),
    ("decoder", "encoders"),
    ("encoders", "heads"),
    ("synchronised_norm", "gathering"),
    ("presets", "errors"),
    ("settings", "errors"),
    ("settings", "presets"),
    ("settings", "local_places"),
    ("settings", "setting_errors"),
    ("settings", "setting_choices"),
    ("setting_choices", "setting_errors"),
    ("setting_errors", "errors"),
    ("geometry", "errors"),
    ("normalising", "errors"),
    ("normalising", "input_schemes"),
    ("refusing", "errors"),
    ("workers", "errors"),
    ("pool", "refusing"),
    ("command", "quoting"),
    ("pool", "worker"),
    ("pool", "workers"),
    ("table", "errors"),
    ("listings", "errors"),
    ("suffixes", "table"),
    ("extras", "errors"),
    ("settings", "plain_yaml"),
    ("pool", "extras"),
    ("table", "settings"),
    ("table", "setting_errors"),
    ("windows", "errors"),
    ("windows", "batch"),
    ("item_orders", "batch"),
    ("item_orders", "errors"),
    ("item_orders", "randomness"),
    ("step_loader", "batch"),
    ("step_loader", "errors"),
    ("step_loader", "listings"),
    ("step_loader", "item_orders"),
    ("pool", "errors"),
    ("settings", "writing"),
    ("writing", "errors"),
    ("locking", "errors"),
    ("locking", "writing"),
    ("failure_notes", "writing"),
    ("listings", "sheet"),
    ("sheet", "quoting"),
    ("cloud_picture", "quoting"),
}
# What medssl's first level and its shared rooms give to point clouds; the rooms of volumes are not theirs.
NOT_FOR_POINTS = {
    "formats",
    "store",
    "views",
    "encoders",
    "tasks",
    "phantoms",
    "decoder",
    "volumes",
    "workflows",
    "chains",
}
PACKAGES = ("medssl", "pointcloud", "pipelines")
# The facade offers the verbs as functions, lazily; it alone looks up.
FACADE = "medssl/__init__.py"


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import of a file, those inside functions and TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module in PACKAGES:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
            elif node.module:
                yield node.lineno, node.module


def layer_of(room: str) -> int:
    found = [layer for layer, rooms in LAYERS.items() if room in rooms]
    assert found, f"medssl/{room} is in no layer: give it a row in docs/architecture.md and in this test"
    return found[0]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def fault(path: Path, name: str) -> str:
    """Return why a file may not import a name, "" where it may."""
    target, _, rest = name.partition(".")
    if target not in PACKAGES or str(path.relative_to(ROOT)) == FACADE:
        return ""
    own = path.relative_to(ROOT).parts[0]
    if PACKAGES.index(target) > PACKAGES.index(own):
        return f"{own} may not import {target}"
    room = rest.partition(".")[0]
    if target != "medssl" or room in {"", "__version__"}:
        return ""
    if own == "pointcloud":
        return f"point clouds may not import the volumes' {room}" if room in NOT_FOR_POINTS else ""
    if own != "medssl" or room == room_of(path):
        return ""
    mine, theirs = layer_of(room_of(path)), layer_of(room)
    if theirs < mine or (room_of(path), room) in SIDEWAYS:
        return ""
    return f"medssl/{room_of(path)} (layer {mine}) may not import medssl/{room} (layer {theirs})"


def test_imports_run_one_way():
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {why}"
        for path in sources()
        for line, name in imported(path)
        if (why := fault(path, name))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "name", "wrong"),
    [
        ("medssl/methods/voco.py", "medssl.engine.loop", True),
        ("medssl/engine/loop.py", "medssl.methods.contract", False),
        ("medssl/store/read.py", "medssl.tasks.segmentation", True),
        ("medssl/loading.py", "medssl.store.read", False),
        ("medssl/errors.py", "pipelines.console", True),
        ("pointcloud/cloud.py", "medssl.store.read", True),
        ("pointcloud/cloud.py", "medssl.errors", False),
        ("pipelines/cli.py", "pointcloud.cloud", False),
    ],
)
def test_the_rule_itself(file, name, wrong):
    assert bool(fault(ROOT / file, name)) is wrong


def test_no_circles_among_modules():
    """Follow imports at the top of a module, those for types alone too; those inside functions close no circle."""
    modules = {_dotted(path): path for path in sources()}
    graph = {name: set(_at_import(path)) & set(modules) - {name} for name, path in modules.items()}
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> None:
        assert name not in trail, "circle: " + " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        for follows in sorted(graph[name]):
            walk(follows, [*trail, name])
        done.add(name)

    for name in sorted(graph):
        walk(name, [])


def test_no_circles_among_modules_through_imports_inside_functions():
    """What is imported late closes a circle all the same; imports for types alone never run."""
    modules = {_dotted(path): path for path in sources()}
    graph = {name: _when_run(path, set(modules)) & set(modules) - {name} for name, path in modules.items()}
    reached = {name: _reachable(graph, name) for name in graph}
    circles = sorted(name for name, far in reached.items() if name in far)
    assert not circles


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def _when_run(path: Path, modules: set[str]) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= inner or {node.module}
    return found


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _at_import(path: Path) -> Iterator[str]:
    def visit(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.If):
                yield from visit([*node.body, *node.orelse])
            elif isinstance(node, ast.Try):
                yield from visit([*node.body, *node.orelse, *node.finalbody])

    yield from visit(ast.parse(path.read_text(encoding="utf-8")).body)


def test_no_relative_imports():
    relative = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative, relative


def test_the_table_is_the_one_of_the_documents():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (.+) \|$", text, flags=re.MULTILINE)
    documented = {
        int(layer): {name.removesuffix(".py") for name in re.findall(r"`medssl/([\w.]+?)/?`", rooms)}
        for layer, rooms in rows
    }
    assert documented == LAYERS


def test_every_room_exists_or_is_not_listed():
    rooms = {
        path.name.removesuffix(".py")
        for path in (ROOT / "medssl").iterdir()
        if path.suffix in ("", ".py") and not path.name.startswith("_")
    }
    listed = set().union(*LAYERS.values())
    assert rooms - listed == set(), "in no layer"
    assert listed - rooms == set(), "listed, and not there"
