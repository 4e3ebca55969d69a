"""nnU-Net's, TotalSegmentator's, OpenMind's and VoComni's networks of stages: imported, then compared level by level.

The makers' network is dynamic_network_architectures' where that is installed, and one written from its description
where it is not; names and numbers of both are compared where both are there.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medssl.engine.card import load_card, load_encoder
from medssl.errors import ConfigError, DataError
from medssl.tasks.segmenter import load_segmenter
from medssl.workflows.import_weights import import_weights
from tests.oracles.authors_stages import UNet, jittered

SIZES = {
    "residual": {
        "channels": [4, 6, 8],
        "blocks": [1, 2, 1],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    },
    "unet": {
        "channels": [4, 6, 8],
        "blocks": [2, 2, 2],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    },
}
CLASSES = {"background": 0, "liver": 1, "tumour": 2}
CT = {"percentile_00_5": -120.5, "percentile_99_5": 301.0, "mean": 71.25, "std": 50.5}


def _authors(kind: str, *, inputs: int = 1, heads: int = 3, convs: int = 2, sizes=None) -> nn.Module:
    sizes = sizes or SIZES[kind]
    torch.manual_seed(11)
    own = UNet(kind, inputs, heads, convs=convs, **sizes)
    try:
        from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
    except ImportError:
        return jittered(own)
    classes = {"residual": (ResidualEncoderUNet, "n_blocks_per_stage"), "unet": (PlainConvUNet, "n_conv_per_stage")}
    cls, counted = classes[kind]
    theirs = cls(
        input_channels=inputs,
        n_stages=len(sizes["channels"]),
        features_per_stage=sizes["channels"],
        conv_op=nn.Conv3d,
        kernel_sizes=sizes["kernels"],
        strides=sizes["strides"],
        num_classes=heads,
        n_conv_per_stage_decoder=[convs] * (len(sizes["channels"]) - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
        **{counted: sizes["blocks"]},
    )
    theirs = jittered(theirs)
    own.load_state_dict(theirs.state_dict(), strict=True)  # the description has the same names
    images = torch.rand(1, inputs, 8, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(own.eval()(images), theirs(images), atol=1e-5, rtol=1e-5)
    return theirs


def _plans(
    kind: str, *, sizes=None, convs: int = 2, old: bool = False, scheme: str = "CTNormalization", **more
) -> dict:
    sizes = sizes or SIZES[kind]
    names = {"residual": ("ResidualEncoderUNet", "n_blocks_per_stage"), "unet": ("PlainConvUNet", "n_conv_per_stage")}
    network, counted = names[kind]
    stages = len(sizes["channels"])
    config = {
        "spacing": [3.0, 0.75, 0.5],
        "patch_size": [8, 16, 24],
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [False],
    }
    if old:
        config |= {
            "UNet_class_name": network,
            "UNet_base_num_features": sizes["channels"][0],
            "unet_max_num_features": max(sizes["channels"]),
            "n_conv_per_stage_encoder": sizes["blocks"],
            "n_conv_per_stage_decoder": [convs] * (stages - 1),
            "pool_op_kernel_sizes": sizes["strides"],
            "conv_kernel_sizes": sizes["kernels"],
        }
    else:
        config["architecture"] = {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": sizes["channels"],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": sizes["kernels"],
                "strides": sizes["strides"],
                counted: sizes["blocks"],
                "n_conv_per_stage_decoder": [convs] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    return {
        "dataset_name": "Dataset007_Made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": CT},
        "configurations": {"3d_fullres": config},
        **more,
    }


def _checkpoint(network: nn.Module, plans: dict, **more) -> dict:
    data = {"channel_names": {"0": "CT"}, "labels": CLASSES, "numTraining": 3, "file_ending": ".nii.gz"}
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "lrs": [0.01]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": data},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **more,
    }


def _saved(tmp_path: Path, content: object, name: str = "checkpoint_final.pth") -> Path:
    path = tmp_path / name
    torch.save(content, path)
    return path


def _images(channels: int = 1, size=(8, 16, 24)) -> torch.Tensor:
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(5))


def _difference(ours, theirs) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", SIZES)
def test_a_segmenter_of_nnunet_draws_the_same_logits(tmp_path: Path, kind: str, old: bool, record_property) -> None:
    sizes = SIZES[kind] if not old else {**SIZES[kind], "channels": [4, 8, 8]}  # old plans double up to a maximum
    theirs = _authors(kind, sizes=sizes)
    path = _saved(tmp_path, _checkpoint(theirs, _plans(kind, old=old, sizes=sizes)))
    found = import_weights(path, out=tmp_path / "run")
    assert found.source == "nnunet"
    assert set(found.report.shares) <= {"stem", "blocks", "decoder", "heads"}
    assert set(found.report.shares.values()) == {1.0}
    rows = [row.there for row in found.report.rows if row.there]
    assert sorted(rows) == sorted(theirs.state_dict()), "every tensor of the file stands in exactly one row"
    ours = load_segmenter(tmp_path / "run").network.eval()
    images = _images()
    with torch.no_grad():
        difference = _difference(ours.encoder(images), theirs.encoder(images))
        record_property("nnunet", difference)
        assert difference < 1e-4
        torch.testing.assert_close(ours(images), theirs(images), atol=2e-5, rtol=1e-4)
        again = load_encoder(tmp_path / "run")(images)
        assert _difference(again, theirs.encoder(images)) < 1e-4
    card = load_card(tmp_path / "run")
    assert card.spacing_mm == (3.0, 0.75, 0.5)
    assert card.inputs[0].numbers == (-120.5, 301.0, 71.25, 50.5)
    assert card.method["classes"] == {"1": "liver", "2": "tumour"}
    assert card.origin.source == "nnunet"


def test_a_plan_whose_axes_are_permuted_is_turned_back(tmp_path: Path) -> None:
    theirs = _authors("unet")
    plans = _plans("unet", transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0])
    import_weights(_saved(tmp_path, _checkpoint(theirs, plans)), out=tmp_path / "run")
    ours = load_segmenter(tmp_path / "run").network.eval()
    images = _images(size=(16, 24, 8))  # (z, y, x) of the file; the network saw (x, z, y)
    with torch.no_grad():
        logits = theirs(images.permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)
        torch.testing.assert_close(ours(images), logits, atol=2e-5, rtol=1e-4)
    card = load_card(tmp_path / "run")
    assert card.spacing_mm == (0.75, 0.5, 3.0)
    assert card.window == (16, 24, 8)


def test_a_folder_of_nnunet_is_read_with_its_plans(tmp_path: Path) -> None:
    theirs = _authors("residual")
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (folder / "fold_all").mkdir(parents=True)
    content = _checkpoint(theirs, {})
    (folder / "plans.json").write_text(json.dumps(_plans("residual")))
    (folder / "dataset.json").write_text(json.dumps(content["init_args"]["dataset_json"]))
    del content["init_args"]
    _saved(folder / "fold_all", content)
    found = import_weights(folder, out=tmp_path / "run")
    assert found.card.method["classes"] == {"1": "liver", "2": "tumour"}
    (folder / "fold_0").mkdir()
    _saved(folder / "fold_0", content)
    with pytest.raises(ConfigError, match=r"several networks.*fold_0.*fold_all"):
        import_weights(folder, out=tmp_path / "other")


def test_scalars_of_numpy_under_both_names(tmp_path: Path) -> None:
    """Files that were written under numpy 1 name ``numpy.core``; the pickle is made to."""
    path = _saved(tmp_path, _checkpoint(_authors("unet"), _plans("unet")))
    import zipfile

    old = tmp_path / "old.pth"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(old, "w") as made:
        for row in archive.infolist():
            data = archive.read(row)
            if row.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            made.writestr(row.filename, data)
    assert import_weights(old, out=tmp_path / "run").source == "nnunet"


def test_totalsegmentator_is_told_by_the_name_of_its_data(tmp_path: Path, record_property) -> None:
    plans = _plans("unet", dataset_name="Dataset291_TotalSegmentator_part1_organs_1559subj")
    theirs = _authors("unet")
    found = import_weights(_saved(tmp_path, _checkpoint(theirs, plans)), out=tmp_path / "run")
    images = _images()
    with torch.no_grad():
        difference = _difference(load_encoder(tmp_path / "run")(images), theirs.encoder(images))
    record_property("totalsegmentator", difference)
    assert difference < 1e-4
    assert found.source == "totalsegmentator"
    assert "own terms" in found.card.origin.limits


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d"}, "BatchNorm3d"),
        ({"norm_op_kwargs": {"eps": 1e-3, "affine": True}}, "eps"),
        ({"dropout_op": "torch.nn.modules.dropout.Dropout3d"}, "Dropout3d"),
        ({"nonlin": "torch.nn.ReLU"}, "ReLU"),
        ({"strides": [[2, 2, 2], [1, 2, 2], [2, 2, 2]]}, "first stage"),
        ({"strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]]}, "its decoder has"),
        ({"features_per_stage": [4, 6, 10]}, "its plans say channels"),
    ],
)
def test_what_a_plan_says_that_ours_is_not_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    plans = _plans("unet")
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= change
    path = _saved(tmp_path, _checkpoint(_authors("unet"), plans))
    with pytest.raises(DataError, match=said):
        import_weights(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_networks_and_cascades_name_what_is_near(tmp_path: Path) -> None:
    plans = _plans("unet")
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "a.b.ResidualUNet"
    with pytest.raises(DataError, match=r"ResidualUNet, which no encoder here is\. Nearest"):
        import_weights(_saved(tmp_path, _checkpoint(_authors("unet"), plans)), out=tmp_path / "run")
    plans = _plans("unet")
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    with pytest.raises(DataError, match=r"cascade.*3d_lowres"):
        import_weights(_saved(tmp_path, _checkpoint(_authors("unet"), plans)), out=tmp_path / "run")


def _adaptation(kwargs=None, *, spelling: str = "keys_to_in_proj", several: bool = False) -> dict:
    config = {
        "data_identifier": "nnsslPlans_onemmiso",
        "spacing_style": "onemmiso",
        "spacing": [1, 1, 1],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
    }
    return {
        "architecture_plans": {
            "arch_class_name": "ResidualEncoderUNet" if kwargs else "ResEncL",
            "arch_kwargs": kwargs,
        },
        "pretrain_plan": {
            "dataset_name": "Dataset745_OpenMind",
            "transpose_forward": [0, 1, 2],
            "configurations": {"onemmiso": config} if several else config,
        },
        "pretrain_num_input_channels": 1,
        "recommended_downstream_patchsize": [160, 160, 160],
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        spelling: ["encoder.stem.convs.0.conv"],
    }


def _openmind_layouts(theirs: nn.Module) -> dict[str, dict]:
    whole = theirs.state_dict()
    encoder = {key: value for key, value in whole.items() if key.startswith("encoder.")}
    spark = {f"architecture.{key}": value for key, value in whole.items()} | whole
    return {
        "mae": whole,
        "voco": {**encoder, "projector.layer1.0.weight": torch.ones(2, 3), "projector.layer1.0.bias": torch.ones(2)},
        "simclr": {**encoder, "projector.0.weight": torch.ones(2, 3)},
        "swinunetr": {
            **encoder,
            "rotation_proj_head.weight": torch.ones(4, 2),
            "recon_proj_head.0.weight": torch.ones(2),
        },
        "s3d": {
            **spark,
            "densify_norms.0.weight": torch.ones(8),
            "densify_projs.1.bias": torch.ones(6),
            "mask_tokens.0": torch.zeros(1, 8, 1, 1, 1),
        },
    }


@pytest.mark.parametrize("layout", ["mae", "voco", "simclr", "swinunetr", "s3d"])
def test_openmind_in_every_layout_of_its_methods(tmp_path: Path, layout: str, record_property) -> None:
    sizes = {**SIZES["residual"], "kernels": [[3, 3, 3]] * 3, "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]]}
    theirs = _authors("residual", heads=1, convs=1, sizes=sizes)
    spelling = "key_to_in_proj" if layout == "voco" else "keys_to_in_proj"
    plan = _adaptation(spelling=spelling, several=layout == "mae")
    state = _openmind_layouts(theirs)[layout]
    content = {
        "network_weights": state,
        "nnssl_adaptation_plan": plan,
        "trainer_name": f"{layout}Trainer",
        "init_args": {"configuration_name": "onemmiso"},
        "_best_ema": 0.1,
    }
    path = tmp_path / "checkpoint_final.pth"
    if layout == "simclr":  # as the hub has it: the plan beside the weights
        del content["nnssl_adaptation_plan"]
        (tmp_path / "adaptation_plan.json").write_text(json.dumps(plan))
    torch.save(content, path)
    found = import_weights(path, out=tmp_path / "run")
    assert found.source == "openmind-resenc"
    assert sorted(row.there for row in found.report.rows if row.there) == sorted(state)
    images = _images(size=(16, 8, 24))
    with torch.no_grad():
        difference = _difference(load_encoder(tmp_path / "run")(images), theirs.encoder(images))
    record_property("openmind-resenc", difference)
    assert difference < 1e-4
    card = load_card(tmp_path / "run")
    assert card.inputs[0].normalise == "zscore"
    assert card.spacing_mm == (1.0, 1.0, 1.0)
    assert card.window == (160, 160, 160)
    assert ("decoder.safetensors" in card.weights) == (layout in ("mae", "s3d"))
    assert "share-alike" in card.origin.limits


def test_openmind_at_full_size_has_the_counted_parameters(tmp_path: Path) -> None:
    from medssl.encoders.table import build_encoder
    from medssl.weights.staged_names import from_shapes

    sizes = {
        "channels": [32, 64, 128, 256, 320, 320],
        "blocks": [1, 3, 4, 6, 6, 6],
        "kernels": [[3, 3, 3]] * 6,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * 5],
    }
    with torch.device("meta"):
        network = UNet("residual", 1, 1, convs=1, **sizes)
        ours = build_encoder(from_shapes(network.state_dict(), shown="meta").settings)
    assert len(network.state_dict()) == 956
    assert sum(p.numel() for p in network.parameters()) == 102_348_965
    assert sum(p.numel() for p in network.encoder.parameters()) == 90_296_576
    biases = sum(p.numel() for n, p in network.encoder.named_parameters() if n.endswith(".conv.bias"))
    assert sum(p.numel() for p in ours.parameters()) == 90_296_576 - biases


def test_vocomni_in_nnunets_form_saw_x_y_z(tmp_path: Path, record_property) -> None:
    sizes = {
        **SIZES["unet"],
        "kernels": [[3, 3, 3], [3, 3, 3], [1, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    }
    theirs = _authors("unet", heads=21, sizes=sizes)
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    found = import_weights(
        _saved(tmp_path, {"state_dict": state, "epoch": 3}, "VoComni_nnunet.pt"), out=tmp_path / "run"
    )
    assert found.source == "vocomni-nnunet"
    images = _images(size=(8, 16, 24))
    with torch.no_grad():
        turned = [level.transpose(2, 4) for level in theirs.encoder(images.transpose(2, 4))]
        difference = _difference(load_encoder(tmp_path / "run")(images), turned)
    record_property("vocomni-nnunet", difference)
    assert difference < 1e-4
    assert load_card(tmp_path / "run").inputs[0].numbers == (-175.0, 250.0, -175.0, 425.0)


@pytest.mark.parametrize("fault", ["altered", "removed", "renamed", "added", "nan", "reshaped"])
def test_one_wrong_tensor_is_an_error(tmp_path: Path, fault: str) -> None:
    theirs = _authors("residual")
    state = copy.deepcopy(dict(theirs.state_dict()))
    name = "encoder.stages.1.blocks.0.conv1.conv.weight"
    if fault == "altered":
        state[name] = state[name] + 1.0  # its second name is as it was
    elif fault == "removed":
        del state["decoder.transpconvs.0.bias"]
    elif fault == "renamed":
        state["encoder.stages.1.blocks.0.conv1.odd"] = state.pop("encoder.stages.1.blocks.0.conv1.norm.weight")
    elif fault == "added":
        state["surplus.weight"] = torch.ones(3)
    elif fault == "nan":
        state["decoder.transpconvs.0.bias"][0] = torch.nan
    else:
        state["decoder.transpconvs.0.bias"] = torch.ones(5)
    path = _saved(tmp_path, _checkpoint(theirs, _plans("residual"), network_weights=state))
    with pytest.raises(DataError, match=str(path)):
        import_weights(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
