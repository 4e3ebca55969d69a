"""Code that only tests use: a public function, class or method that nothing else names is refused, or told in STAY.

A name counts as used where code of the packages or of `examples/` speaks of it: as a name, an attribute, an import, a
keyword, or the end of a dotted path in a string (rows of tables). Where two things share a name, one's use hides the
other's lack of it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# module, name -> why it stays though neither the packages nor the examples use it
STAY = {
    ("medssl", "set_verbosity"): "the README's way to see messages from Python",
    ("medssl.formats.dicom_write", "write_multiframe"): "the other form of DICOM beside write_series",
    ("medssl.reduction.duplicates", "find_duplicates"): "docs/reduction.md tells of it",
    ("medssl.reduction.duplicates", "find_duplicates_to_remove"): "docs/reduction.md tells of it",
    ("medssl.workflows.finetune", "cloud_task"): "what was fine-tuned, of a result that is a user's",
    ("pointcloud.primitives.normals", "estimate_normals"): "a primitive, measured by benchmarks/point_primitives.py",
    ("pointcloud.primitives.voxels", "voxel_grid"): "a primitive, measured by benchmarks/point_primitives.py",
    ("pointcloud.store", "is_cloud_store"): "asked by benchmarks/points_compare.py before it stores",
    (
        "pointcloud.store_writing",
        "store_from_clouds",
    ): "as store_from_arrays: clouds from memory, for benchmarks and tests",
    ("pointcloud.surfaces", "cloud_from_volume"): "docs/points.md tells of it",
    ("pointcloud.surfaces", "cloud_from_labels"): "docs/points.md tells of it",
}


def spoken(tree: ast.AST) -> Iterator[str]:
    """Yield what code speaks of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.:]+", node.value):
            yield re.split("[.:]", node.value)[-1]


def told(tree: ast.Module) -> Iterator[str]:
    """Yield the words of ``__all__``, which are no use."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            yield from spoken(node.value)


def defined(tree: ast.Module) -> Iterator[str]:
    """Yield the public functions and classes of a module, and the public methods of its classes."""
    for node in tree.body:
        parts = [node, *(node.body if isinstance(node, ast.ClassDef) else ())]
        for part in parts:
            if isinstance(part, ast.FunctionDef | ast.ClassDef) and not part.name.startswith("_"):
                yield part.name


def unused(modules: dict[str, ast.Module], others: list[ast.Module]) -> set[tuple[str, str]]:
    """Return module and name of what is defined in modules and spoken of nowhere."""
    used = Counter(word for tree in [*modules.values(), *others] for word in spoken(tree))
    used.subtract(word for tree in modules.values() for word in told(tree))
    return {(module, name) for module, tree in modules.items() for name in defined(tree) if used[name] < 1}


def trees(folder: str) -> dict[str, ast.Module]:
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[dotted] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def test_nothing_is_there_for_tests_alone():
    modules = trees("medssl") | trees("pointcloud") | trees("pipelines")
    found = unused(modules, list(trees("examples").values()))
    extra, stale = sorted(found - STAY.keys()), sorted(STAY.keys() - found)
    assert not extra, (
        f"only tests use these: delete them, move them to the tests, or say in STAY why they stay: {extra}"
    )
    assert not stale, f"used by now, or gone; take them out of STAY: {stale}"


def test_what_only_all_names_is_found():
    one = ast.parse('__all__ = ["a", "b", "C"]\ndef a(): ...\ndef b(): ...\nclass C:\n    def m(self): ...\n')
    two = ast.parse('from one import a\nROWS = {"x": "one.C"}\n')
    assert unused({"one": one, "two": two}, []) == {("one", "b"), ("one", "m")}
