"""What mends the worst finding of ``medssl check``: a step in words where a hand is needed, and the command then."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.command import Command

if TYPE_CHECKING:
    from medssl.manifest.check import CheckResult, Finding
    from medssl.manifest.schema import Manifest

__all__ = ["Mend", "mend_of", "reduce_command"]

# Copies, and scans of one patient in several splits: what `reduce` marks and moves.
_REDUCED = {"leak", "duplicate", "copy-of-another-patient", "case-of-several-splits"}
# What the files themselves say by now: indexing again is all that is needed.
_READ_AGAIN = {"changed"}
# What `cache` leaves out by itself, naming each: one may go on without them.
_LEFT_OUT = {"unreadable", "nonfinite", "constant"}
# Warnings that settings of `index` mend.
_DRAWN_ANEW = {"class-not-in-training", "class-never-trained", "part-never-trained"}
_STRATIFIED = re.compile(r"medssl index \.\.\. stratify=(.+) fresh=true")


@dataclass(frozen=True)
class Mend:
    """What to do.

    Attributes:
        first: What a hand has to do before, in a sentence; "" where the command is enough.
        command: The command.
        otherwise: How to go on without mending; "" where that is not to be done.
    """

    first: str
    command: Command
    otherwise: str = ""


def mend_of(result: CheckResult, source: Manifest, file: Path) -> Mend | None:
    """Return what mends the worst finding that can be mended; None where there is none.

    Errors come first, and of one severity what befalls most scans. What is only worth a look is passed over.

    Args:
        result: The findings, with names of files where they may be shown.
        source: The manifest.
        file: Its file.
    """
    for severity, kind, findings in result.by_kind():
        if severity == "info":
            break
        settings = _settings(kind, findings, source)
        if kind in _REDUCED:
            return Mend("", reduce_command(file))
        if kind in _READ_AGAIN:
            return Mend("", _index(source, file, ()))
        if settings:
            return Mend("", _index(source, file, settings))
        if severity == "error":
            otherwise = f"or continue without them: {reduce_command(file)}" if kind in _LEFT_OUT else ""
            return Mend(_in_words(kind, findings), _index(source, file, ()), otherwise)
    return None


def reduce_command(file: Path) -> Command:
    """Return the command that marks copies in a manifest."""
    return Command("reduce", file, "--out", file.with_name(f"{file.stem}-kept.parquet"))


def _settings(kind: str, findings: Sequence[Finding], source: Manifest) -> tuple[str, ...]:
    """Return the settings with which indexing again mends a kind of finding; () where none does."""
    if kind in _DRAWN_ANEW:
        return (f"seed={int(source.settings.get('split', {}).get('seed', 0)) + 1}", "fresh=true")
    if kind.startswith("case-of-several-"):
        return ("channels=none",)
    if kind == "class-missing-in-split":
        found = _STRATIFIED.search(findings[0].todo)
        if found and source.settings.get("stratify") != found[1]:
            return (f"stratify={found[1]}", "fresh=true")
    return ()


def _in_words(kind: str, findings: Sequence[Finding]) -> str:
    """Return what a hand has to do about a kind of finding."""
    first = findings[0]
    what = kind.replace("-", " ")
    where = f" in {len(findings)} scans, such as {first.scan}" if len(findings) > 1 else f" in {first.scan}"
    todo = re.sub(r"[,;:]? (?:or|then): medssl .*$|, or let medssl .*$", ".", first.todo)
    return f"fix first: {what}{where if first.scan else ''}. {todo}"


def _index(source: Manifest, file: Path, changed: Sequence[str]) -> Command:
    """Return the command that indexes again, with the settings that were given before and those that are changed."""
    scans = "SCANS" if source.pseudonymous else source.settings.get("listed") or source.root or "SCANS"
    names = {one.partition("=")[0] for one in changed}
    given = [one for one in source.settings.get("given", ()) if one.partition("=")[0] not in names]
    return Command("index", scans, "--out", file, *given, *changed)
