from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_card, load_encoder, save_encoder
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.exporting.runs import exportable_of
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask
from medssl.tasks.segmenter import describe_segmenter, load_segmenter
from medssl.workflows.export import export
from medssl.workflows.export_targets import EXPORTS
from medssl.workflows.import_weights import import_weights
from tests.perturbing import perturbed


def _card(encoder, **more) -> Card:
    return Card(
        **{
            "encoder": encoder.settings.model_dump(mode="json"), "in_channels": 1, "channels": encoder.channels,
            "strides": encoder.strides, "spacing_mm": (2.0, 1.5, 1.0), "modality": "CT", "scale": (-1000.0, 1000.0),
            "window": (18, 16, 16), **more,
        }
    )  # fmt: skip


@pytest.fixture
def pretrained(tmp_path):
    torch.manual_seed(0)
    encoder = perturbed(build_encoder({"name": "unet", "channels": [4, 8, 12]}))
    (tmp_path / "pretrained").mkdir()
    save_encoder(encoder, _card(encoder), tmp_path / "pretrained")
    return tmp_path / "pretrained"


@pytest.fixture
def segmenter(tmp_path):
    torch.manual_seed(0)
    classes = {0: "background", 2: "liver", 5: "spleen"}
    encoder = build_encoder({"name": "unet", "channels": [4, 8, 12]})
    task = SegmentationTask(SegmentationSettings(window=(16, 16, 20)), encoder, classes)
    perturbed(task)
    folder = tmp_path / "segmenter"
    folder.mkdir()
    card = _card(encoder, method=describe_segmenter(task, classes, start=""), window=(16, 16, 20))
    save_encoder(encoder, card, folder, others={"network": task.network})
    return folder


def test_a_run_says_what_it_is(pretrained, segmenter) -> None:
    encoder = exportable_of(pretrained)
    assert not encoder.is_segmenter
    assert encoder.window == (16, 16, 16)  # the window of training cut to what the encoder takes
    assert encoder.intensity == (-1000.0, 1000.0)
    model = exportable_of(segmenter)
    assert model.is_segmenter
    assert model.classes == ("background", "liver", "spleen")
    assert model.structures == (0, 2, 5)
    assert not exportable_of(segmenter, encoder_only=True).is_segmenter


def test_mr_is_scaled_by_percentiles(tmp_path) -> None:
    encoder = build_encoder({"name": "unet", "channels": [4, 8]})
    save_encoder(encoder, _card(encoder, modality="MR", scale=(0.0, 16384.0)), tmp_path)
    assert exportable_of(tmp_path).intensity is None


def test_safetensors_load_as_a_run_does(segmenter, tmp_path) -> None:
    result = export(segmenter, to="safetensors", out=tmp_path / "out")
    assert {path.name for path in result.written} >= {"encoder.safetensors", "network.safetensors", "card.json"}
    images = torch.rand(1, 1, 16, 16, 20)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "out").embed(images), load_encoder(segmenter).embed(images))
        moved, first = load_segmenter(tmp_path / "out"), load_segmenter(segmenter)
        assert torch.equal(moved.network(images), first.network(images))


@pytest.mark.parametrize("which", ["pretrained", "segmenter"])
def test_a_hub_folder_is_imported_again(which: str, request, tmp_path, capsys) -> None:
    run = request.getfixturevalue(which)
    result = export(run, to="hub", out=tmp_path / "out")
    head = (tmp_path / "out" / "README.md").read_text().split("---")[1]
    assert "library_name: medssl" in head
    assert len(set(result.written)) == len(result.written)
    again = import_weights(tmp_path / "out", out=tmp_path / "again")
    assert again.card == load_card(run)
    assert "recognised: a run, exported by medssl" in capsys.readouterr().out
    images = torch.rand(1, 1, 16, 16, 20)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "again").embed(images), load_encoder(run).embed(images))
        if which == "segmenter":
            assert torch.equal(load_segmenter(tmp_path / "again").network(images), load_segmenter(run).network(images))
    (tmp_path / "out" / "encoder.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_weights(tmp_path / "out", out=tmp_path / "third")
    assert not list((tmp_path / "third").glob("*.json"))


@pytest.mark.parametrize("which", ["pretrained", "segmenter"])
def test_torchscript_is_the_network(which: str, request, tmp_path) -> None:
    run = request.getfixturevalue(which)
    result = export(run, to="torchscript", out=tmp_path / "net")
    assert result.written == (tmp_path / "net.pt", tmp_path / "net.json")
    images = torch.rand(3, 1, *exportable_of(run).window)
    with torch.no_grad():
        found = torch.jit.load(tmp_path / "net.pt")(images)
        wanted = load_segmenter(run).network(images) if which == "segmenter" else load_encoder(run).embed(images)
    torch.testing.assert_close(found[-1], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("which", ["pretrained", "segmenter"])
def test_nnunet(which: str, request, tmp_path) -> None:
    result = export(request.getfixturevalue(which), to="nnunet", out=tmp_path / "out")
    names = {str(path.relative_to(tmp_path / "out")) for path in result.written}
    expected = {
        "pretrained": {"pretrained.pth", "architecture.json", "README.md", "medssl.json"},
        "segmenter": {"plans.json", "dataset.json", "fold_all/checkpoint_final.pth", "medssl.json"},
    }
    assert names == expected[which]


@pytest.mark.slow
def test_onnx_gets_its_suffix(segmenter, tmp_path, capsys) -> None:
    pytest.importorskip("onnxruntime")
    from medssl.exporting.onnx import run_onnx

    result = export(segmenter, to="onnx", out=tmp_path / "net")
    assert result.written[:2] == (tmp_path / "net.onnx", tmp_path / "net.json")
    assert "from torch at most" in capsys.readouterr().out
    images = torch.rand(1, 1, 16, 16, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_segmenter(segmenter).network(images)
    np.testing.assert_allclose(run_onnx(tmp_path / "net.onnx", images)[0], expected, atol=1e-3)


@pytest.mark.slow
def test_monai(segmenter, tmp_path, capsys) -> None:
    result = export(segmenter, to="monai", out=tmp_path / "bundle")
    assert result.max_difference is not None
    assert result.max_difference < 1e-3
    assert (tmp_path / "bundle" / "configs" / "metadata.json").is_file()
    assert "monai.bundle" in capsys.readouterr().out


def test_what_cannot_be_is_refused(pretrained, tmp_path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'monai'"):
        export(pretrained, to="monay", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="the run itself"):
        export(pretrained, to="safetensors", out=pretrained)
    with pytest.raises(CheckpointError):
        export(tmp_path, to="onnx", out=tmp_path / "out")
    encoder = load_encoder(pretrained)
    save_encoder(encoder, _card(encoder, spacing_mm=None), pretrained)
    with pytest.raises(DataError, match="spacing_mm"):
        export(pretrained, to="onnx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for to in ("safetensors", "hub"):
        export(pretrained, to=to, out=tmp_path / f"plain {to}")
        assert load_card(tmp_path / f"plain {to}").spacing_mm is None
    assert "of a voxel size that nobody says" in (tmp_path / "plain hub" / "README.md").read_text()
    assert import_weights(tmp_path / "plain hub", out=tmp_path / "back").card.spacing_mm is None
    said = export(pretrained, to="hub", out=tmp_path / "out", overrides=["spacing_mm=[2,1,1]"])
    assert said.written
    assert load_card(tmp_path / "out").spacing_mm == (2.0, 1.0, 1.0)
    assert exportable_of(pretrained, spacing_mm=(2.0, 1.0, 1.0)).spacing_mm == (2.0, 1.0, 1.0)


def test_a_voxel_size_that_is_known_is_not_said_otherwise(pretrained) -> None:
    assert exportable_of(pretrained, spacing_mm=(2.0, 1.5, 1.0)).spacing_mm == (2.0, 1.5, 1.0)
    with pytest.raises(DataError, match="Leave it out"):
        exportable_of(pretrained, spacing_mm=(2.0, 2.0, 2.0))


def test_a_dry_run_writes_nothing(segmenter, tmp_path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for to in EXPORTS:
        assert export(segmenter, to=to, out=tmp_path / "out", dry_run=True).written == ()
    assert sorted(tmp_path.rglob("*")) == before
