"""Pages of reference, made from the code when the site is built: nothing in them is written by hand.

Verbs and options come from the command line itself, settings from their classes, choices from their tables, presets
from their files, and what is called from Python from docstrings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import mkdocs_gen_files
import typer
from typer.main import get_command

from medssl import __all__ as exported
from medssl.presets import list_presets
from medssl.workflows.list_things import KINDS
from medssl.workflows.setting_docs import SettingDoc, setting_docs
from medssl.workflows.verbs import VERBS, settings_of

_ROOT = Path(__file__).resolve().parents[2]


def _cell(text: object) -> str:
    """Return a table's cell: on one line, its bars and brackets as they are."""
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;").strip()


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)]) + "\n"


def _page(name: str, title: str, *parts: str) -> None:
    with mkdocs_gen_files.open(name, "w") as file:
        file.write("\n\n".join([f"# {title}", *parts]) + "\n")


def _settings(docs: Iterable[SettingDoc]) -> str:
    return _table(
        ("Key", "Default", "Allowed", "Meaning"),
        [(f"`{d.key}`", f"`{d.default}`" if d.default else "", d.allowed, d.meaning) for d in docs],
    )


def _documented(path: str, *more: str) -> str:
    """Return the docstring of a dotted path, under a heading that stands there already."""
    options = ", ".join(["show_root_heading: false", "show_root_toc_entry: false", *more])
    return f"::: {path}\n    options: {{{options}}}"


def _verbs() -> str:
    from pipelines.cli import app

    group = get_command(app)
    context = typer.Context(group)
    parts = []
    for name in group.list_commands(context):  # type: ignore[attr-defined]
        verb = group.get_command(context, name)  # type: ignore[attr-defined]
        if verb is None or verb.hidden:
            continue
        help_, _, examples = (verb.help or "").partition("For example:")
        rows = []
        for option in verb.params:
            words = (
                [*option.opts, *option.secondary_opts]
                if option.param_type_name == "option"
                else [option.metavar or option.name]
            )
            rows.append((" ".join(f"`{word}`" for word in words), getattr(option, "help", "") or ""))
        shown = [f"## {name}", help_.replace("\b", "").strip()]
        if lines := [line.strip() for line in examples.replace("\b", "").splitlines() if line.strip()]:
            shown.append("\n".join(["```bash", *lines, "```"]))
        parts.append("\n\n".join([*shown, _table(("Option", "Meaning"), rows)]))
    return "\n\n".join(parts)


def _listed(kind: str) -> str:
    columns, rows = KINDS[kind]()
    return _table(columns, rows)


def _presets() -> str:
    parts = []
    for preset in list_presets():
        text = preset.path.read_text(encoding="utf-8")
        head = {key: value for key, value in preset.header.items() if key != "purpose"}
        facts = "\n".join(f"* {key.capitalize()}: {_cell(value)}" for key, value in head.items())
        body = "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
        parts.append(
            f"## {preset.verb}/{preset.name}\n\n{preset.header.get('purpose', '')}\n\n{facts}\n\n```yaml\n{body}\n```"
        )
    return "\n\n".join(parts)


def _methods() -> str:
    from medssl.encoders.table import ENCODERS
    from medssl.methods.table import METHODS
    from pointcloud.encoders.table import CLOUD_ENCODERS
    from pointcloud.methods.table import CLOUD_METHODS

    parts = []
    for title, table in (
        ("Methods of scans", METHODS),
        ("Methods of clouds", CLOUD_METHODS),
        ("Encoders of scans", ENCODERS),
        ("Encoders of clouds", CLOUD_ENCODERS),
    ):
        parts.append(f"## {title}")
        for name, row in table.items():
            facts = [
                f"* {what}: {text}"
                for what, text in (("Take it when", row.take_when), ("Needs", row.needs), ("Paper", row.paper))
                if text
            ]
            parts.append(
                "\n\n".join(
                    [
                        f"### {name}",
                        "\n".join(facts),
                        _documented(row.target, "members: []", "show_bases: false"),
                        _settings(setting_docs(table.settings_class(name))),
                    ]
                )
            )
    return "\n\n".join(parts)


def _objectives() -> str:
    modules = [
        f"{room}.{path.stem}"
        for room in ("medssl.objectives", "pointcloud.objectives")
        for path in sorted((_ROOT / room.replace(".", "/")).glob("*.py"))
        if path.stem != "__init__"
    ]
    return "\n\n".join(
        f"## {module.rpartition('.')[2]} ({module.partition('.')[0]})\n\n{_documented(module)}" for module in modules
    )


def _python() -> str:
    """Return the page of functions; where each lies is read from the package's own lazy imports."""
    import medssl

    parts = [
        "What a verb returns is a frozen result: `written`, `next`, `figures`, and what it found.",
        "## set_verbosity\n\n" + _documented("medssl.set_verbosity"),
    ]
    for name in sorted(set(exported) - {"__version__", "set_verbosity"}):
        found = getattr(medssl, name)
        parts.append(f"## {name}\n\n" + _documented(f"{found.__module__}.{found.__qualname__}"))
    return "\n\n".join(parts)


def _from_root(name: str) -> str:
    """Return a page of the root without its title; its links are those of `links`."""
    return (_ROOT / name).read_text(encoding="utf-8").partition("\n")[2]


_page("reference/verbs.md", "Verbs", "Every verb takes `--help`; settings follow as `key=value`.", _verbs())
_page(
    "reference/settings.md",
    "Settings",
    "Set by `key=value` after a verb, or in a YAML file. A key with a kind in brackets is set without them.",
    *(
        f"## {name}\n\n{_settings(setting_docs(cls, every=False))}"
        for name in VERBS
        if (cls := settings_of(name)) is not None
    ),
)
_page("reference/presets.md", "Presets", "`medssl copy NAME my.yaml` writes one as a file of yours.", _presets())
_page("reference/methods.md", "Methods and encoders", _methods())
_page(
    "reference/objectives.md",
    "Objectives",
    "Pure functions of tensors; each has an oracle, a property and a gradient test.",
    _objectives(),
)
_page("reference/formats.md", "Formats", _listed("formats"))
_page("reference/python.md", "Python", _python())
for root, title in (("CONTRIBUTING.md", "Contributing"), ("SECURITY.md", "Security"), ("CHANGELOG.md", "Changes")):
    _page(root.lower(), title, _from_root(root))
