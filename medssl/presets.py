"""Presets: the YAML files of ``configs/`` by verb and name, and what the comment at the head of each says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import ConfigError, did_you_mean

__all__ = ["Preset", "find_preset", "list_presets", "preset_folder"]


@dataclass(frozen=True)
class Preset:
    """A YAML file of ``configs/``.

    Attributes:
        verb: The verb that it is for: the name of its folder.
        name: Its file name without ``.yaml``.
        path: The file.
        header: The comment lines at its head, such as ``{"purpose": ..., "command": ...}``; keys in lower case.
    """

    verb: str
    name: str
    path: Path
    header: dict[str, str]


def preset_folder() -> Path:
    """Return the folder of presets: package data of an installed wheel, or ``configs/`` beside an editable install."""
    package = Path(__file__).resolve().parent
    shipped = package / "_presets"
    return shipped if shipped.is_dir() else package.parent / "configs"


def list_presets(verb: str | None = None) -> list[Preset]:
    """Return every shipped preset, of one ``verb`` or of all, by verb and name."""
    pattern = f"{verb or '*'}/*.yaml"
    return [Preset(p.parent.name, p.stem, p, _header_of(p)) for p in sorted(preset_folder().glob(pattern))]


def find_preset(name: str | Path, verb: str = "") -> Path:
    """Return the file of a preset.

    Args:
        name: A bare name (``voco``), a name with its verb (``pretrain/voco``), or the path of a YAML file.
        verb: Where to look for a bare name; empty looks everywhere.

    Raises:
        ConfigError: There is no such file or preset, or the bare name belongs to several verbs.
    """
    text = str(name)
    if Path(text).suffix in {".yaml", ".yml"}:
        if Path(text).is_file():
            return Path(text)
        raise ConfigError(f"{text}: no such settings file. Give an existing YAML file, or a preset's name.")
    wanted_verb, _, bare = text.rpartition("/")
    presets = list_presets(wanted_verb or verb or None)
    found = [preset for preset in presets if preset.name == bare]
    if len(found) == 1:
        return found[0].path
    if found:
        names = ", ".join(f"{preset.verb}/{preset.name}" for preset in found)
        raise ConfigError(f"Preset '{text}' exists for several verbs: {names}. Name it with its verb.")
    of_verb = f" for '{wanted_verb or verb}'" if wanted_verb or verb else ""
    if not presets:
        raise ConfigError(f"Unknown preset '{text}': there are none{of_verb}. Give the path of a YAML file.")
    hint = did_you_mean(bare, {preset.name for preset in presets})
    raise ConfigError(f"Unknown preset '{text}'{of_verb}. {hint} See all with: medssl list presets")


def _header_of(path: Path) -> dict[str, str]:
    """Return ``# Key: value`` lines at the head of a YAML file; a line without a key goes on with the one before."""
    header: dict[str, str] = {}
    key = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("#").strip()
        match = re.match(r"([A-Z][A-Za-z ]{2,24}):\s*(.*)", text)
        if match:
            key = match.group(1).lower()
            header[key] = match.group(2)
        elif text:
            key = key or "purpose"
            header[key] = f"{header.get(key, '')} {text}".strip()
    return header
