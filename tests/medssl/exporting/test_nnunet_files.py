"""What is written for nnU-Net, seen without nnU-Net; `test_nnunet.py` and `test_nnunet_trains.py` let it read that."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from medssl.decoder import UNetDecoder
from medssl.errors import DataError
from medssl.exporting.exportable import ExportInput
from medssl.exporting.nnunet import export_pretrained_weights, export_trained_model, starting_network
from medssl.exporting.nnunet_plans import plan_for
from medssl.exporting.nnunet_scheme import held, must_be_held
from medssl.volumes.exports import renumbered
from tests.perturbing import perturbed

CT = ExportInput("ct", "CT", (-1000.0, 1000.0))
FITTED = ExportInput("ct", "CT", None, "nonzero", (-900.0, 300.0, 20.0, 130.0))
NONZERO = ExportInput("t1", "MR", None, "nonzero")
SCALED = {
    "unit": ExportInput("t1", "MR", None),
    "zscore": ExportInput("t1", "MR", None, "zscore"),
    "dataset": ExportInput("t1", "MR", None, "dataset", (0.0, 16384.0, 5e3, 3e3)),
    "nnunet": ExportInput("t1", "MR", None, "nnunet"),
    "zscore-ct": ExportInput("ct", "CT", None, "zscore"),
}


def test_numbers_of_a_plan_scale_as_training_did() -> None:
    values = np.linspace(-1500, 1500, 61)
    for channel, (low, high, less, over) in ((CT, (-1000, 1000, -1000, 2000)), (FITTED, (-900, 300, 20, 130))):
        own = held(channel)
        assert (own.scheme, own.instead) == ("CTNormalization", "")
        said = own.properties
        theirs = (values.clip(said["percentile_00_5"], said["percentile_99_5"]) - said["mean"]) / said["std"]
        np.testing.assert_allclose(theirs, (values.clip(low, high) - less) / over)
    assert (held(NONZERO).scheme, held(NONZERO).instead) == ("ZScoreNormalization", "")


@pytest.mark.parametrize("name", SCALED)
def test_what_nnunet_cannot_make_is_refused_with_what_can(make, name: str) -> None:
    model = make("unet", segmenter=True, inputs=(SCALED[name],))
    with pytest.raises(DataError, match=r"medssl cache MANIFEST --out STORE normalise=nonzero"):
        must_be_held(model, nearest=False)
    (warned,) = must_be_held(replace(model, grid="nnunet", steps="even"), nearest=True)
    assert "nearest" in warned


def test_what_lies_elsewhere_in_nnunet_is_said(make) -> None:
    model = replace(make("unet", segmenter=True, inputs=(NONZERO,)), grid="nnunet", steps="even")
    assert must_be_held(model, nearest=False) == []
    for changes, words in (
        ({"grid": "spacing"}, "grid=nnunet"),
        ({"steps": "fixed"}, "steps=even"),
        ({"crop_mm": 10.0}, "cropped to the body"),
        ({"kept_voxels": True}, "their mean, 2 x 1.5 x 1 mm"),
    ):
        (said,) = must_be_held(replace(model, **changes), nearest=False)
        assert words in said
    (said,) = must_be_held(replace(model, inputs=(FITTED,)), nearest=False)
    assert "hu_range=[-900,300]" in said
    assert must_be_held(replace(model, inputs=(replace(FITTED, within=(-900.0, 300.0)),)), nearest=False) == []


def test_a_run_that_mirrors_is_mirrored_there_too(make, tmp_path) -> None:
    for mirror, axes in (((), None), (("z", "x"), (0, 2))):
        export_trained_model(replace(make("unet", segmenter=True), mirror=mirror), tmp_path)
        kept = torch.load(tmp_path / "fold_all/checkpoint_final.pth", weights_only=True)
        assert kept["inference_allowed_mirroring_axes"] == axes


@pytest.mark.parametrize("convs", [1, 2])
def test_a_pretrained_decoder_goes_along(make, tmp_path, convs: int) -> None:
    model = make("residual", segmenter=False)
    decoder = perturbed(UNetDecoder(model.encoder, 1, convs_per_stage=convs))
    known = decoder.state_dict()
    start = starting_network(replace(model, decoder=known))
    assert (start.carried, start.fresh) == (len(known) - 2, 0)
    assert "encoder and decoder are the run's" in start.words
    export_pretrained_weights(model, tmp_path, start=start)
    written = torch.load(tmp_path / "pretrained.pth", weights_only=True)["network_weights"]
    for name, value in known.items():
        assert name.startswith("seg_layers.") or torch.equal(written[f"decoder.{name}"], value), name
    plan = json.loads((tmp_path / "architecture.json").read_text())
    assert plan["arch_kwargs"]["n_conv_per_stage_decoder"] == [convs] * 2


def test_a_fresh_decoder_is_said_to_be_fresh(make, tmp_path) -> None:
    model = make("unet", segmenter=False)
    start = starting_network(model)
    assert start.carried == 0
    assert f"a fresh one is written ({start.fresh} tensors)" in start.words
    known = UNetDecoder(model.encoder, 1, convs_per_stage=2).state_dict()
    some = {name: value for name, value in known.items() if ".0." in name}  # the coarsest stage alone
    part = starting_network(replace(model, decoder=some))
    assert part.carried + part.fresh == start.fresh
    assert part.carried > 0 < part.fresh
    export_pretrained_weights(model, tmp_path, start=part)
    assert "of the decoder" in (tmp_path / "README.md").read_text().lower()


def test_a_datasets_own_plans_gain_one_beside_them(make, tmp_path) -> None:
    known = {"mean": 7.0, "std": 3.0, "percentile_00_5": 0.0, "percentile_99_5": 20.0}
    theirs = {
        "dataset_name": "Dataset007_Heart",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": known},
        "configurations": {
            "3d_fullres": {
                "batch_size": 5,
                "normalization_schemes": ["ZScoreNormalization"],
                "median_image_size_in_voxels": [90, 80, 70],
            }
        },
    }
    with pytest.raises(DataError, match="nnUNetv2_plan_and_preprocess -d NUMBER --no_pp"):
        plan_for(make("unet", segmenter=False), 2, tmp_path)
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(theirs))
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}}))
    plans = json.loads(plan_for(make("unet", segmenter=False, inputs=(SCALED["unit"],)), 2, tmp_path).read_text())
    own = plans["configurations"]["3d_fullres"]
    assert plans["dataset_name"] == "Dataset007_Heart"
    assert plans["foreground_intensity_properties_per_channel"] == {"0": known}
    assert (own["batch_size"], own["patch_size"], own["spacing"]) == (5, [12, 16, 20], [2.0, 1.5, 1.0])
    assert own["normalization_schemes"] == ["ZScoreNormalization"]  # percentiles it has not: the dataset's own stays
    plans = json.loads(plan_for(make("unet", segmenter=False), 2, tmp_path).read_text())
    assert plans["configurations"]["3d_fullres"]["normalization_schemes"] == ["CTNormalization"]
    assert plans["foreground_intensity_properties_per_channel"]["0"]["percentile_00_5"] == -1000
    assert json.loads((tmp_path / "nnUNetPlans.json").read_text()) == theirs
    with pytest.raises(DataError, match="1 channels, and 'small' takes 2"):
        plan_for(make("unet", segmenter=False, in_channels=2, inputs=(CT, NONZERO)), 2, tmp_path)


def test_numbers_that_nnunet_writes_otherwise_are_said(make) -> None:
    """Labels of nnU-Net have no gaps: enhancing tumour, 4, is 3 in its maps, and nothing had said so."""
    model = make("unet", segmenter=True)
    count = len(model.classes)
    assert renumbered(replace(model, structures=tuple(range(count)))) == []
    (said,) = renumbered(replace(model, structures=(*range(count - 1), count + 3)))
    assert f"{count + 3} ({model.classes[-1]}) is {count - 1}" in said
