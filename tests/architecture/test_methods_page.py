"""docs/methods.md has a row for every method, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

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


def test_every_preset_is_of_a_method_that_has_a_row() -> None:
    rows = {name for name, rest in _ROW.findall(PAGE) if rest.count(" | ") >= 3}
    presets = sorted((ROOT / "configs" / "pretrain").glob("*.yaml"))
    assert len(presets) >= len(rows)
    for preset in presets:
        named = yaml.safe_load(preset.read_text(encoding="utf-8"))["method"]["name"]
        assert named in rows, f"{preset.name}: {named}"


def test_the_head_of_a_preset_promises_what_the_table_shows() -> None:
    """A preset with a row that learns says so; one without says what it is made for and where it was not shown."""
    verdicts: dict[str, set[str]] = {}
    for preset, verdict in re.findall(r"^\| `?(\w+_small)`?[^|]* \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE):
        verdicts.setdefault(preset, set()).add(verdict)
    assert len(verdicts) >= len(METHODS)
    for preset, found in verdicts.items():
        head = (ROOT / "configs" / "pretrain" / f"{preset}.yaml").read_text(encoding="utf-8")
        expected = re.search(r"^# Expected: (.*)$", head, re.MULTILINE)
        assert expected, f"{preset}: no line 'Expected'"
        careful = expected[1].startswith("made for ") and "docs/methods.md" in expected[1]
        assert careful != ("learns" in found), f"{preset}: {sorted(found)}, and its head says '{expected[1]}'"


def test_a_preset_that_was_not_measured_says_for_what_size_it_is_made() -> None:
    heads = {
        preset.name: re.search(r"^# Expected: (.*)$", preset.read_text(encoding="utf-8"), re.MULTILINE)
        for preset in sorted((ROOT / "configs" / "pretrain").glob("*.yaml"))
    }
    unmeasured = {name: head[1] for name, head in heads.items() if head and "not measured" in head[1].lower()}
    assert len(unmeasured) >= 15
    for name, head in unmeasured.items():
        settings = yaml.safe_load((ROOT / "configs" / "pretrain" / name).read_text(encoding="utf-8"))
        size = f"made for {settings['train']['steps']:,} steps of {settings['train']['batch_size']} "
        assert size in head, f"{name}: its head does not say '{size}', but '{head}'"


def test_the_head_of_a_fine_tuning_preset_says_its_own_size_and_what_is_known_there() -> None:
    """In the preset's own numbers; a whole preset, of which nothing was trained here, says that."""
    presets = sorted((ROOT / "configs" / "finetune").glob("*.yaml"))
    assert len(presets) >= 13
    for preset in presets:
        text = preset.read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
        train = settings["train"]
        group = settings.get("classification", settings.get("segmentation", {}))
        size = "x".join(map(str, group["window"])) if "window" in group else f"{settings['cloud']['points']} points"
        head = re.search(r"^# Expected: ((?:.*\n#           )*.*)$", text, re.MULTILINE)
        assert head, f"{preset.name}: no line 'Expected'"
        told = re.match(rf"made for {train['steps']:,} steps of {train['batch_size']} \w+ (?:of|at) {size}", head[1])
        assert told, f"{preset.name}: {train['steps']:,} steps of {train['batch_size']} ... {size}, not '{head[1]}'"
        assert ("not run here" in head[1]) != preset.stem.endswith("_small"), f"{preset.name}: '{head[1]}'"
        assert re.search("not run here|no gain .* is shown|not compared", head[1]), f"{preset.name}: '{head[1]}'"
