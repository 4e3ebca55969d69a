"""A command that is shown can be copied into a shell, whatever the folders are called."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from medssl.quoting import quoted
from medssl.workflows.setting_docs import setting_docs
from medssl.workflows.verbs import VERBS, settings_of

ROOT = Path(__file__).parents[2]
FILES = sorted(path for part in ("medssl", "pointcloud", "pipelines") for path in (ROOT / part).rglob("*.py"))
# Where commands are shown to people whole: pages, presets, the help of the verbs.
PAGES = [ROOT / "README.md"] + [
    path for part in ("docs/*.md", "configs/**/*.yaml", "pipelines/commands*.py") for path in sorted(ROOT.glob(part))
]
COMMAND = re.compile(r"\bmedssl [a-z-]+ |\bcd $| -m $")
# Names of ours, in which there is nothing to quote, or nothing left to.
OURS = {
    "CONFIGURATION",
    "PLANS",
    "card.modality",
    "spacing",
    "window",
    "name",
    "title",
    "chosen",
    "following",
    "place",
    "voxels",
}


def unquoted(node: ast.JoinedStr) -> list[str]:
    """Return what is put into a shown command as it is, from the verb on."""
    text, found = "", []
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
            continue
        inserted = ast.unparse(part.value)
        plain = not inserted.startswith(("quoted(", "shlex.", "'/'.join")) and inserted not in OURS
        if COMMAND.search(text) and plain and not re.search(r"[.:;]\s", text[COMMAND.search(text).end() :]):
            found.append(inserted)
        text += "x"
    return found


def test_words_with_spaces_are_quoted():
    assert shlex.split(quoted("my scans/ct", "it's", Path("out"))) == ["my scans/ct", "it's", "out"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_shown_commands_are_quoted(path):
    tree = ast.parse(path.read_text())
    found = [bad for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for bad in unquoted(node)]
    assert not found, f"put quoted(...) around {found}"


def unknown_settings(text: str) -> list[str]:
    """Return the keys of ``key=value`` in commands of a text that the command's verb does not know."""
    found = []
    for verb, rest in re.findall(r"\bmedssl ([a-z-]+) ([^`\n]*)", text):
        if verb in VERBS and VERBS[verb].settings:
            known = {re.sub(r"\[\w+\]", "", doc.key) for doc in setting_docs(settings_of(verb))}
            for key in re.findall(r"(?<![-\w.])([a-z_][\w.]*)=", rest):
                free = any(key.startswith(f"{open_key}.") for open_key in ("few_label.finetune", "structures"))
                if key not in known and not free:
                    found.append(f"medssl {verb} {key}=")
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_in_shown_commands_are_known(path):
    assert unknown_settings(path.read_text()) == []


def test_an_unknown_setting_is_found():
    assert unknown_settings("`medssl pretrain voco train.step=3 train.steps=3`") == ["medssl pretrain train.step="]
