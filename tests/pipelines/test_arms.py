"""Arms of a comparison: which runs may stand beside each other."""

from __future__ import annotations

import json

import pytest

from medssl.engine.card import Card
from medssl.errors import ConfigError
from medssl.workflows.arms import arms_of, check_same


def runs_of(tmp_path, *encoders, windows=((16, 16, 16),) * 9):
    folders = []
    for index, (encoder, window) in enumerate(zip(encoders, windows, strict=False)):
        folder = tmp_path / f"run{index}"
        folder.mkdir()
        card = Card(encoder=encoder, in_channels=1, channels=(4, 8), window=window)
        (folder / "card.json").write_text(json.dumps(card.model_dump(mode="json")))
        folders.append(folder)
    return folders


def test_a_setting_that_an_older_card_does_not_name_has_its_default(tmp_path):
    older, newer = {"name": "unet", "channels": [4, 8]}, {"name": "unet", "channels": [4, 8], "dims": 3}
    check_same(runs_of(tmp_path, older, newer))


def test_runs_of_different_architectures_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"run1.*compare these in two comparisons"):
        check_same(runs_of(tmp_path, {"name": "unet", "channels": [4, 8]}, {"name": "unet", "channels": [4, 16]}))


def test_windows_may_differ_where_the_recipe_names_one(tmp_path):
    unet = {"name": "unet", "channels": [4, 8]}
    runs = runs_of(tmp_path, unet, unet, windows=((16, 16, 16), (8, 16, 16)))
    check_same(runs, windows=False)
    with pytest.raises(ConfigError, match=r"run1 has the window \(8, 16, 16\).*where the settings name none"):
        check_same(runs)


def test_two_decoders_on_one_encoder_are_two_arms(tmp_path):
    unet = {"name": "unet", "channels": [4, 8]}
    runs = runs_of(tmp_path, unet, unet, unet)
    for run in runs:
        (run / "encoder.safetensors").write_bytes(b"one encoder")
    (runs[1] / "decoder.safetensors").write_bytes(b"a decoder")
    (runs[2] / "decoder.safetensors").write_bytes(b"another")
    assert len(set(arms_of(runs, "scratch").values())) == 4


def test_a_pool_without_weights_matters_where_something_is_pooled(tmp_path):
    older, newer = ({"name": "unet", "channels": [4, 8], "pool": pool} for pool in ("mean", "prenorm"))
    runs = runs_of(tmp_path, older, newer)
    check_same(runs, pools=False)
    with pytest.raises(ConfigError, match=r"differ by encoder\.pool alone"):
        check_same(runs)
