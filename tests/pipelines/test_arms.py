"""Arms of a comparison: which runs may stand beside each other."""

from __future__ import annotations

import json

import pytest

from medssl.engine.card import Card
from medssl.errors import ConfigError
from pipelines.arms import check_same


def runs_of(tmp_path, *encoders):
    folders = []
    for index, encoder in enumerate(encoders):
        folder = tmp_path / f"run{index}"
        folder.mkdir()
        card = Card(encoder=encoder, in_channels=1, channels=(4, 8), window=(16, 16, 16))
        (folder / "card.json").write_text(json.dumps(card.model_dump(mode="json")))
        folders.append(folder)
    return folders


def test_a_setting_that_an_older_card_does_not_name_has_its_default(tmp_path):
    older, newer = {"name": "unet", "channels": [4, 8]}, {"name": "unet", "channels": [4, 8], "dims": 3}
    check_same(runs_of(tmp_path, older, newer))


def test_runs_of_different_architectures_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"run1.*compare these in two comparisons"):
        check_same(runs_of(tmp_path, {"name": "unet", "channels": [4, 8]}, {"name": "unet", "channels": [4, 16]}))
