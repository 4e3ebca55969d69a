"""Files that cannot be held are named for what they are, with the reason and what is near; damaged plans too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medssl.errors import ConfigError, DataError
from medssl.weights.importing import ready
from medssl.weights.refused import REFUSED, refused_by_name
from medssl.weights.table import SOURCES
from medssl.workflows.list_things import list_things
from medssl.workflows.show import show
from tests.oracles.test_published_stages import _adaptation, _authors, _checkpoint, _plans


def _named(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.ones(2, 2, 3, 3, 3) for name in names}


FILES = {
    "point-bert": lambda: {"base_model": _named("module.transformer_q.cls_token")},
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_held_is_named(tmp_path: Path, name: str) -> None:
    torch.save(FILES[name](), tmp_path / "a.pth")
    row = REFUSED[name]
    with pytest.raises(ConfigError) as told:
        ready(tmp_path / "a.pth")
    assert f"{row.title} is not taken: {row.why}. Nearest: {row.nearest}." in str(told.value)


def test_slices_of_the_same_names_are_not_taken_for_medicalnet(tmp_path: Path) -> None:
    torch.save(
        {"conv1.weight": torch.ones(2, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(2, 2, 3, 3)}, tmp_path / "a.pth"
    )
    with pytest.raises(ConfigError, match="is none of the published weights"):
        ready(tmp_path / "a.pth")


@pytest.mark.parametrize("called", [*REFUSED, "PointBERT"])
def test_each_is_shown_and_refused_by_its_name(tmp_path: Path, called: str, capsys) -> None:
    row = refused_by_name(called)
    show(called)
    said = capsys.readouterr().out
    assert row.why in said
    assert row.nearest in said
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="is not taken"):
        ready(tmp_path / "a.pth", named=called)


def test_they_are_listed_beside_what_is_taken(capsys) -> None:
    list_things("weights")
    said = capsys.readouterr().out
    assert all(name in said for name in REFUSED)
    assert not set(REFUSED) & set(SOURCES)


def _damage(path: list[str], value: object):
    def damaged(plans: dict) -> dict:
        inner = plans
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return plans

    return damaged


CONFIG = ["configurations", "3d_fullres"]


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (_damage(CONFIG, None), "not as nnunet writes it"),
        (_damage(["configurations"], [1, 2]), "not as nnunet writes it"),
        (_damage([*CONFIG, "architecture", "arch_kwargs"], {}), "not as nnunet writes it"),
        (_damage([*CONFIG, "architecture", "arch_kwargs", "n_stages"], 10**9), "1000000000 stages"),
        (_damage([*CONFIG, "spacing"], [1.0, float("nan"), 1.0]), "not a voxel size"),
        (_damage([*CONFIG, "spacing"], "3 1 1"), "not a voxel size"),
        (_damage(["foreground_intensity_properties_per_channel", "0"], {"mean": "x"}), "not as nnunet writes it"),
        (
            _damage(
                ["foreground_intensity_properties_per_channel", "0"],
                {"percentile_00_5": -9.0, "percentile_99_5": 9.0, "mean": 0.0, "std": 0.0},
            ),
            r"intensities of channel 0 \(CT\) are none",
        ),
    ],
)
def test_plans_that_lack_or_mix_up_something_are_refused_in_one_line(tmp_path: Path, damaged, said: str) -> None:
    torch.save(_checkpoint(_authors("unet"), damaged(_plans("unet"))), tmp_path / "a.pth")
    with pytest.raises(DataError, match=said) as told:
        ready(tmp_path / "a.pth")
    assert "\n" not in str(told.value)


def test_whole_numbers_and_a_lost_head_are_errors(tmp_path: Path) -> None:
    content = _checkpoint(_authors("unet"), _plans("unet"))
    whole = content["network_weights"]
    torch.save({**content, "network_weights": {k: v.to(torch.int8) for k, v in whole.items()}}, tmp_path / "int.pth")
    with pytest.raises(DataError, match="is int8 there and float32 here"):
        ready(tmp_path / "int.pth")
    kept = {key: value for key, value in whole.items() if key != "decoder.seg_layers.1.weight"}
    torch.save({**content, "network_weights": kept}, tmp_path / "lost.pth")
    with pytest.raises(DataError, match=r"seg_layers\.1\.weight' is missing"):
        ready(tmp_path / "lost.pth")


def test_the_pool_is_stated_and_that_of_the_makers_where_they_take_one(tmp_path: Path) -> None:
    network = _authors("residual")
    encoder = {key: value for key, value in network.state_dict().items() if key.startswith("encoder.")}
    for name, state, pool in (
        ("mae", network.state_dict(), "prenorm"),
        ("simclr", {**encoder, "projector.0.weight": torch.ones(5, 8)}, "prenorm"),
        ("voco", {**encoder, "projector.layer1.0.weight": torch.ones(5, 18)}, "levels"),
    ):
        kwargs = _plans("residual")["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
        torch.save({"network_weights": state, "nnssl_adaptation_plan": _adaptation(kwargs)}, tmp_path / f"{name}.pth")
        made = ready(tmp_path / f"{name}.pth")
        assert made.card.encoder["pool"] == pool
        assert any("encoder.pool=prenorm" in guess for guess in made.wanted.guesses) == (pool == "prenorm")
