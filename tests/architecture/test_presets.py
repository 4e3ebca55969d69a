"""Every preset fits the settings of its verb, and its header says what a reader wants to know."""

from __future__ import annotations

import re

import pytest

from medssl.presets import list_presets
from medssl.settings import resolve
from medssl.workflows.verbs import VERBS, settings_of

PRESETS = list_presets()
NEEDED = {"purpose", "command"}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: f"{preset.verb}/{preset.name}")
def test_preset_fits_its_verb(preset):
    assert preset.verb in VERBS, f"configs/{preset.verb}/ belongs to no verb"
    cls = settings_of(preset.verb)
    assert cls is not None, f"'{preset.verb}' takes no settings"
    resolved = resolve(cls, preset=preset.path)
    assert any(origin == f"preset {preset.name}" for origin in resolved.origins.values()), "sets nothing"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: f"{preset.verb}/{preset.name}")
def test_preset_has_a_header(preset):
    assert set(preset.header) >= NEEDED, f"{preset.path.name}: its head needs '# Purpose: ...' and '# Command: ...'"
    assert re.search(rf"\bmedssl {preset.verb}\b.*\b{preset.name}\b", preset.header["command"])
