"""The rules of CONTRIBUTING.md that a machine can check."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("medssl", "pointcloud", "pipelines")
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "tools", "stuff", "functions"}
LONGEST = 600
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """Return every text file of the project that git knows; all files where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [p for p in ROOT.rglob("*") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]
    suffixes = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".html", ".j2", ".css", ".json", ""}
    return [path for path in paths if path.is_file() and path.suffix in suffixes]


def test_there_is_something_to_check():
    assert len(SOURCES) > 40
    assert len(tracked()) > len(SOURCES)


def test_no_module_is_called_after_nothing():
    names = [part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts]
    assert not BANNED_NAMES & set(names)


def test_files_are_short():
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_every_module_says_what_it_is():
    trees = {relative(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert not [name for name, tree in trees.items() if not ast.get_docstring(tree)]


def public_definitions(path: Path):
    """Yield (name, node) of public classes, functions and methods of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    overload = isinstance(inner, kinds) and any(
                        "overrid" in ast.unparse(d) for d in inner.decorator_list
                    )
                    if isinstance(inner, kinds) and not inner.name.startswith("_") and not overload:
                        yield f"{node.name}.{inner.name}", inner


def test_public_symbols_are_documented():
    silent = [
        f"{relative(path)}: {name}"
        for path in SOURCES
        for name, node in public_definitions(path)
        if not ast.get_docstring(node)
    ]
    assert not silent, "\n".join(silent)


def exported(path: Path) -> list[str] | None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            try:
                return list(ast.literal_eval(node.value))
            except ValueError:  # built from other names, as the facade's
                return None
    return None


def test_what_is_exported_exists():
    wrong = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body):
            # looked up when used (PEP 562): the names must be there all the same
            module = importlib.import_module(
                ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            )
            wrong += [f"{relative(path)}: {name}" for name in exported(path) or [] if not hasattr(module, name)]
            continue
        defined = {alias.asname or alias.name for n in tree.body if isinstance(n, ast.ImportFrom) for alias in n.names}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
        wrong += [f"{relative(path)}: {name}" for name in exported(path) or [] if name not in defined]
    assert not wrong


@pytest.mark.parametrize("package", ["medssl", "pointcloud"])
def test_the_library_never_prints(package):
    prints = [
        f"{relative(path)}:{node.lineno}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] == package
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints


SEEDING = re.compile(r"(torch\.manual_seed|np\.random\.seed|numpy\.random\.seed|random\.seed|seed_everything)$")


def seedings(tree: ast.AST, *, forked: bool = False):
    """Yield the lines that set a global seed outside of a ``with torch.random.fork_rng()``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and SEEDING.search(ast.unparse(node.func)) and not forked:
            yield node.lineno
        inside = isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item) for item in node.items)
        yield from seedings(node, forked=forked or inside)


def test_no_global_seeds():
    """Randomness is a value: a global seed would tie a run to the order in which its parts happen to run.

    The engine alone sets torch's own seed, anew for every step, because dropout layers draw from nowhere else.
    """
    lines = [
        f"{relative(path)}:{line}"
        for path in SOURCES
        if path.parent.name != "engine"
        for line in seedings(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not lines, "\n".join(lines)


def test_the_rule_on_seeds_itself():
    forked = "with torch.random.fork_rng():\n    torch.manual_seed(0)"
    assert list(seedings(ast.parse(forked))) == []
    assert list(seedings(ast.parse("def f():\n    torch.manual_seed(0)"))) == [2]


def test_no_line_names_a_machine():
    """Paths of someone's machine and hosts of package registries have no place in the project.

    A made-up home, /home/jane, stands in examples of how paths are taken out of what is handed on.
    """
    # Written so that these lines do not find themselves.
    here, root = "/".join(["", "work", ""]), "/".join(["", "root", ""])
    hosts = "|".join([r"\.python" r"hosted\.", r"pypi\.org" r"/simple"])
    places = re.compile(rf"(?<![\w.]){here}|/home/(?!jane/)[a-z]|/Users/[A-Z]|{root}|{hosts}")
    own = Path(__file__).resolve()
    lines = [
        f"{relative(path)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        if path != own
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if places.search(line)
    ]
    assert not lines, "\n".join(lines)


def test_pinned_versions_name_no_address():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(pins) > 50
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+( ; .+)?", pin) for pin in pins)
    assert "://" not in text


def test_no_images_or_scans_are_kept_in_the_project():
    kept = [relative(p) for p in tracked() if p.name.endswith((".nii", ".nii.gz", ".dcm", ".mha", ".nrrd", ".b2nd"))]
    assert not kept
