"""``medssl validate``: whether a settings file is right, and what it resolves to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.command import Command
from medssl.errors import ConfigError
from medssl.presets import find_preset, list_presets, preset_folder
from medssl.settings import Resolved, dump_with_origins, flatten, resolve
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.workflows.verbs import VERBS, settings_of

__all__ = ["Validated", "validate", "verb_of"]


@dataclass(frozen=True)
class Validated(Result):
    """A settings file that is right.

    Attributes:
        verb: The verb that it is for.
        resolved: What it resolves to, with the origin of each value.
    """

    verb: str
    resolved: Resolved[Any]

    @property
    def settings(self) -> Any:
        """The settings."""
        return self.resolved.settings


@takes_places
def validate(preset: str | Path, *, verb: str = "", overrides: Sequence[str] = ()) -> Validated:
    """Resolve a settings file as its verb would, and show the result with the origin of each value.

    Args:
        preset: A YAML file, or a preset's name.
        verb: The verb that it is for; empty finds it from the file.
        overrides: ``key=value``, as given to the verb.

    Raises:
        ConfigError: Something in it is wrong (all of it is named at once), or its verb cannot be told.
    """
    path = find_preset(preset, verb)
    chosen = verb or verb_of(path)
    cls = settings_of(chosen)
    if cls is None:
        raise ConfigError(f"'{chosen}' takes no settings file. Verbs that do: {', '.join(_with_settings())}.")
    resolved = _with_store(resolve(cls, preset=path, overrides=overrides))
    events.message(dump_with_origins(resolved).rstrip(), lines=True)
    settings = resolved.settings.model_dump(mode="json")
    found = events.written(
        Validated(
            chosen,
            resolved,
            next=Command(chosen, preset),
            figures={"verb": chosen, "settings": settings, "origins": resolved.origins},
        )
    )
    events.message(f"{path}: valid, {len(flatten(resolved.settings))} settings for '{chosen}'")
    return found


def _with_store(resolved: Resolved[Any]) -> Resolved[Any]:
    """Hold the settings of a training verb against its store, where they name one that is there."""
    settings = resolved.settings
    folder, domain = getattr(getattr(settings, "data", None), "store", ""), getattr(settings, "domain", None)
    if not folder or domain is None or not domain.claims(Path(folder)):
        return resolved
    found: Resolved[Any] = domain.training.fitted(resolved, domain.open(folder))
    return found


def verb_of(path: Path) -> str:
    """Return the verb that a settings file is for: its folder in ``configs/``, else a ``medssl VERB`` in its header.

    Raises:
        ConfigError: Neither tells.
    """
    if preset_folder() in path.resolve().parents:
        return path.resolve().parent.name
    head = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    for verb in re.findall(r"\bmedssl ([a-z]+)", head):
        if verb in _with_settings():
            return str(verb)
    copied = {preset.name: preset.verb for preset in list_presets()}
    if path.stem in copied:
        return copied[path.stem]
    raise ConfigError(
        f"{path}: cannot tell which verb it is for. Name it with --for (one of {', '.join(_with_settings())}), "
        "or write a line '# Command: medssl VERB ...' at its head."
    )


def _with_settings() -> list[str]:
    return [name for name, verb in VERBS.items() if verb.settings]
