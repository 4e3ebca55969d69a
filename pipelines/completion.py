"""What the shell offers behind a word of the command line: presets, methods, forms of export, things to show.

Nothing heavy is imported: the shell asks at every press of the key. Install it with: medssl --install-completion
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from medssl.encoders.table import ENCODERS
from medssl.methods.table import METHODS
from medssl.presets import list_presets
from medssl.weights.table import SOURCES
from medssl.workflows.export_targets import EXPORTS
from medssl.workflows.protocols import PROTOCOLS
from medssl.workflows.verbs import VERBS
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.methods.table import CLOUD_METHODS

__all__ = ["export_forms", "methods", "presets_of", "protocols", "shown", "sources", "verbs_with_settings"]

_IN_NNUNET = ("residual", "unet")  # encoders that nnU-Net has


def presets_of(verb: str) -> Callable[[str], list[str]]:
    """Return what offers the presets of a verb, and for pretrain the methods too."""

    def offered(incomplete: str) -> list[str]:
        names = [preset.name for preset in list_presets(verb)]
        return _fitting([*names, *(methods("") if verb == "pretrain" else [])], incomplete)

    return offered


def methods(incomplete: str) -> list[str]:
    """Return the methods of scans and clouds that begin so."""
    return _fitting([*METHODS, *CLOUD_METHODS], incomplete)


def protocols(incomplete: str) -> list[str]:
    """Return the protocols of ``evaluate``."""
    return _fitting(PROTOCOLS, incomplete)


def shown(incomplete: str) -> list[str]:
    """Return what `medssl show` knows by name."""
    presets = list_presets()
    names = [*METHODS, *CLOUD_METHODS, *ENCODERS, *CLOUD_ENCODERS, *SOURCES, *VERBS]
    names += [preset.name for preset in presets]
    return _fitting([*names, *(f"{preset.verb}/{preset.name}" for preset in presets)], incomplete)


def sources(incomplete: str) -> list[str]:
    """Return the published weights that are known."""
    return _fitting(SOURCES, incomplete)


def verbs_with_settings(incomplete: str) -> list[str]:
    """Return the verbs that take a settings file."""
    return _fitting([name for name, verb in VERBS.items() if verb.settings], incomplete)


def export_forms(ctx: click.Context, incomplete: str) -> list[str]:
    """Return the forms that the run on the line can be exported to; all of them where it says nothing of itself."""
    forms: Iterable[str] = EXPORTS
    run = ctx.params.get("run") or next(iter(ctx.args), "")  # behind an option without its value, words are unread
    try:
        card = json.loads((Path(str(run)) / "card.json").read_text(encoding="utf-8"))
        encoder = card.get("encoder", {}).get("name")
        if card.get("kind") == "cloud":
            forms = [form for form, row in EXPORTS.items() if "points" in row.domains]
        elif encoder not in _IN_NNUNET:
            forms = [form for form in EXPORTS if form != "nnunet"]
    except (OSError, ValueError, AttributeError):
        pass
    return _fitting(forms, incomplete)


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
