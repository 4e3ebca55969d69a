"""Exports of networks of several channels: each is named and scaled by itself, and the outputs are ours."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medssl.errors import DataError
from medssl.exporting.exportable import ExportInput, example_input
from medssl.exporting.monai_bundle import export_monai_bundle
from medssl.exporting.nnunet import export_trained_model
from medssl.exporting.onnx import export_onnx, run_onnx

WINDOW = (12, 16, 20)
CT = ExportInput("ct", "CT", (-1000.0, 1000.0))
PET = ExportInput("pet", "PT", (0.0, 500.0))
T1 = ExportInput("t1", "MR", None)


def write_case(folder: Path, model, names: tuple[str, ...]) -> np.ndarray:
    """Write one window of noise a channel, as LPS+ NIfTI; return (C, z, y, x)."""
    folder.mkdir()
    values = np.random.default_rng(0).integers(-1400, 1400, (len(names), *model.window)).astype(np.int16)
    flipped = np.diag([*model.spacing_mm[::-1], 1.0]) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    for name, one in zip(names, values, strict=True):
        turned = one.transpose(2, 1, 0)[::-1, ::-1].copy()
        nibabel.save(nibabel.Nifti1Image(turned, flipped), folder / f"case_{name}.nii.gz")
    return values


def seen(values: np.ndarray, inputs: tuple[ExportInput, ...]) -> torch.Tensor:
    scaled = []
    for one, given in zip(values.astype(np.float64), inputs, strict=True):
        low, high = np.percentile(one, (0.5, 99.5)) if given.intensity is None else given.intensity
        scaled.append(np.clip((one - low) / (high - low), 0, 1))
    return torch.from_numpy(np.stack(scaled)).float()[None]


def run_bundle(folder: Path, **entries: str) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(folder), "device": "$torch.device('cpu')", **entries})
    parser.get_parsed_content("run")


def agree(theirs: np.ndarray, logits: torch.Tensor, *, by: float, share: float) -> None:
    margin = logits.topk(2, dim=0).values
    sure = (margin[0] - margin[1] > by).numpy()
    assert sure.mean() > share
    assert np.array_equal(theirs[sure], logits.argmax(0).numpy()[sure])


@pytest.mark.parametrize("inputs", [(CT, PET), (T1, T1), (CT, T1)], ids=["fixed", "percentiles", "mixed"])
def test_a_bundle_segments_cases_as_we_do(make, tmp_path: Path, inputs: tuple[ExportInput, ...]) -> None:
    names = ("a", "b")
    inputs = tuple(ExportInput(n, given.modality, given.intensity) for n, given in zip(names, inputs, strict=True))
    model = make("unet", segmenter=True, in_channels=2, inputs=inputs)
    export_monai_bundle(model, tmp_path / "bundle")
    values = write_case(tmp_path / "scans", model, names)
    run_bundle(tmp_path / "bundle", dataset_dir=str(tmp_path / "scans"), output_dir=str(tmp_path / "eval"))
    (written,) = (tmp_path / "eval").iterdir()
    found = np.asarray(nibabel.load(written).dataobj)
    theirs = found.reshape(WINDOW[::-1])[::-1, ::-1].transpose(2, 1, 0)
    with torch.no_grad():
        logits = model.network(seen(values, inputs))[0]
    agree(theirs, logits, by=1e-3, share=0.95)
    metadata = json.loads((tmp_path / "bundle" / "configs" / "metadata.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["channel_def"] == {"0": "a", "1": "b"}
    assert image["num_channels"] == 2


def test_a_bundle_embeds_cases_as_we_do(make, tmp_path: Path) -> None:
    model = make("residual", segmenter=False, in_channels=2, inputs=(CT, PET))
    export_monai_bundle(model, tmp_path / "bundle")
    values = write_case(tmp_path / "scans", model, ("ct", "pet"))
    run_bundle(tmp_path / "bundle", dataset_dir=str(tmp_path / "scans"), output_dir=str(tmp_path / "eval"))
    with np.load(tmp_path / "eval" / "embeddings.npz") as found, torch.no_grad():
        assert found["files"].tolist() == ["case_ct.nii.gz"]
        np.testing.assert_allclose(found["vectors"], model.encoder.embed(seen(values, (CT, PET))), atol=1e-4)


def test_nnunet_segments_cases_as_we_do(make, tmp_path: Path) -> None:
    pytest.importorskip("nnunetv2")
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    model = make("unet", segmenter=True, in_channels=2, inputs=(CT, PET))
    export_trained_model(model, tmp_path / "model")
    described = json.loads((tmp_path / "model" / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "ct", "1": "pet"}
    predictor = nnUNetPredictor(use_gaussian=False, use_mirroring=False, device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(tmp_path / "model"), ("all",), "checkpoint_final.pth")
    values = write_case(tmp_path / "scans", model, ("ct", "pet"))
    files = [str(tmp_path / "scans" / f"case_{name}.nii.gz") for name in ("ct", "pet")]
    image, properties = NibabelIOWithReorient().read_images(files)
    theirs = predictor.predict_single_npy_array(image, properties, None, None, False)
    with torch.no_grad():
        logits = model.network(seen(values, (CT, PET)))[0]
    agree(theirs, logits, by=0.05, share=0.5)


def test_onnx_takes_two_channels_and_names_them(make, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = make("unet", segmenter=True, in_channels=2, inputs=(CT, T1))
    report = export_onnx(model, tmp_path / "a.onnx")
    assert report.inputs["images"][1] == 2
    images = example_input(model, batch=2, seed=4)
    with torch.no_grad():
        np.testing.assert_allclose(run_onnx(report.path, images)[0], model.network(images), atol=1e-3)
    channels = json.loads((tmp_path / "a.json").read_text())["input"]["channels"]
    assert [c["name"] for c in channels] == ["ct", "t1"]
    assert channels[0]["becomes_0_and_1"] == [-1000.0, 1000.0]
    assert "percentiles" in channels[1]["becomes_0_and_1"]


def test_as_many_channels_are_described_as_the_network_takes(make) -> None:
    with pytest.raises(DataError, match="takes 2 channels, and 1 are described"):
        make("unet", segmenter=True, in_channels=2, inputs=(CT,)).description()
