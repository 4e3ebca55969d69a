from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medssl.exporting.monai_bundle import export_monai_bundle
from medssl.exporting.monai_network import dynunet_arguments
from medssl.regions import Region


def _scan(folder, model, name: str = "scan.nii.gz") -> np.ndarray:
    """Write one window of noise as LPS+ NIfTI; return it as the network's training would see it, (z, y, x)."""
    folder.mkdir(exist_ok=True)
    hounsfield = np.random.default_rng(0).integers(-1400, 1400, model.window).astype(np.int16)
    flipped = np.diag([*model.spacing_mm[::-1], 1.0]) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(hounsfield.transpose(2, 1, 0)[::-1, ::-1].copy(), flipped), folder / name)
    return hounsfield


def _seen(hounsfield: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(hounsfield).float().add(1000).div(2000).clamp(0, 1)[None, None]


def _run(folder, **entries) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(folder), "device": "$torch.device('cpu')", **entries})
    parser.get_parsed_content("run")


@pytest.mark.parametrize(
    ("name", "how"), [("unet", "monai.networks.nets.DynUNet"), ("residual", "TorchScript"), ("vit", "TorchScript")]
)
def test_monai_segments_as_we_do(make, tmp_path, name: str, how: str) -> None:
    model = make(name, segmenter=True, structures=(0, 3, 9))
    bundle = export_monai_bundle(model, tmp_path / "bundle")
    assert bundle.how == how
    assert bundle.max_difference < 1e-3
    assert all(path.is_file() for path in bundle.written)
    hounsfield = _scan(tmp_path / "scans", model)
    _run(tmp_path / "bundle", dataset_dir=str(tmp_path / "scans"), output_dir=str(tmp_path / "eval"))

    written = nibabel.load(tmp_path / "eval" / "scan_seg.nii.gz")
    source = nibabel.load(tmp_path / "scans" / "scan.nii.gz")
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    theirs = np.asarray(written.dataobj).reshape(source.shape)[::-1, ::-1].transpose(2, 1, 0)
    with torch.no_grad():
        logits = model.network(_seen(hounsfield))[0]
    margin = logits.topk(2, dim=0).values
    sure = (margin[0] - margin[1] > 1e-3).numpy()
    assert sure.mean() > 0.95
    assert np.array_equal(theirs[sure], np.array([0, 3, 9])[logits.argmax(0).numpy()][sure])


def test_monai_writes_regions_as_we_do(make, tmp_path) -> None:
    regions = (Region("whole", (1, 2, 4), 1), Region("core", (2, 4), 2), Region("active", (4,), 4))
    names = tuple(region.name for region in regions)
    model = make("unet", segmenter=True, classes=names, structures=(1, 2, 4), regions=regions)
    export_monai_bundle(model, tmp_path / "bundle")
    hounsfield = _scan(tmp_path / "scans", model)
    _run(tmp_path / "bundle", dataset_dir=str(tmp_path / "scans"), output_dir=str(tmp_path / "eval"))
    written = nibabel.load(tmp_path / "eval" / "scan_seg.nii.gz")
    theirs = np.asarray(written.dataobj).reshape(written.shape[:3])[::-1, ::-1].transpose(2, 1, 0)
    with torch.no_grad():
        logits = model.network(_seen(hounsfield))[0].numpy()
    by_hand = np.zeros(theirs.shape, int)
    for channel, region in enumerate(regions):
        by_hand[logits[channel] > 0] = region.written
    sure = (np.abs(logits) > 1e-3).all(axis=0)
    assert len(np.unique(by_hand)) > 2
    assert np.array_equal(theirs[sure], by_hand[sure])


@pytest.mark.parametrize("pool", ["mean", "prenorm", "grid", "attention"])
def test_monai_embeds_as_we_do(make, tmp_path, pool: str) -> None:
    model = make("residual", segmenter=False, pool=pool)
    export_monai_bundle(model, tmp_path / "bundle")
    hounsfield = _scan(tmp_path / "scans", model)
    _run(tmp_path / "bundle", dataset_dir=str(tmp_path / "scans"), output_dir=str(tmp_path / "eval"))
    with np.load(tmp_path / "eval" / "embeddings.npz") as found:
        assert found["files"].tolist() == ["scan.nii.gz"]
        with torch.no_grad():
            np.testing.assert_allclose(found["vectors"], model.encoder.embed(_seen(hounsfield)), atol=1e-4)


def test_dynunet_only_where_it_is_the_same_network(make) -> None:
    assert dynunet_arguments(make("unet", segmenter=True)) is not None
    assert dynunet_arguments(make("unet", segmenter=True, convs=1)) is None
    assert dynunet_arguments(make("residual", segmenter=True)) is None
    assert dynunet_arguments(make("unet", segmenter=False)) is None


def test_metadata_says_what_goes_in_and_out(make, tmp_path) -> None:
    model = make("unet", segmenter=True, intensity=None, modality="MR")
    export_monai_bundle(model, tmp_path)
    metadata = json.loads((tmp_path / "configs" / "metadata.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["spatial_shape"] == [20, 16, 12]
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] == "spleen"
    config = json.loads((tmp_path / "configs" / "inference.json").read_text())
    scaling = config["preprocessing"]["transforms"][3]
    assert scaling["_target_"] == "Lambdad"
    assert config["preparing"]["channels"][0]["percentiles"] == [0.5, 99.5]
    from jsonschema import ValidationError, validate
    from monai.bundle import verify_metadata

    schema = json.loads((tmp_path / "configs" / "schema.json").read_text())
    for path in ("version", "network_data_format"):
        with pytest.raises(ValidationError):
            validate({key: value for key, value in metadata.items() if key != path}, schema)
    said = {"meta_file": str(tmp_path / "configs/metadata.json"), "filepath": str(tmp_path / "configs/schema.json")}
    verify_metadata(**said)  # as printed: the schema lies there, and nothing is downloaded
    assert config["preprocessing"]["transforms"][2]["pixdim"] == [1.0, 1.5, 2.0]


def _printed(readme: str, word: str) -> str:
    """Return the command that a bundle's README prints, of those that hold a word."""
    lines = [line.strip("`()") for line in readme.splitlines() if word in line]
    (line,) = [line[line.index("python ") :].split("`")[0] for line in lines if "python " in line]
    return line


@pytest.mark.slow
@pytest.mark.parametrize("how", ["python -c", "python -m"])
def test_monai_runs_it_where_this_project_is_not_installed(make, tmp_path, how: str) -> None:
    """The lines of the bundle's README, and ``verify_metadata``; ``python -m monai.bundle`` needs the package fire."""
    model = make("residual", segmenter=True)
    export_monai_bundle(model, tmp_path / "bundle")
    _scan(tmp_path / "scans", model)
    # an import of this project fails in the child, so that the bundle cannot lean on it
    (tmp_path / "medssl").mkdir()
    (tmp_path / "medssl" / "__init__.py").write_text("raise ImportError('the bundle must stand alone')\n")
    readme = (tmp_path / "bundle" / "docs" / "README.md").read_text()
    if how == "python -m":
        install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(tmp_path), "fire"]
        if subprocess.run(install, capture_output=True).returncode:
            pytest.skip("needs the package fire, and pip cannot install it here")
        lines = [_printed(readme, "run --config_file configs/inference.json"), _printed(readme, "verify_metadata")]
    else:
        lines = [readme[readme.index("python -c") :].split("```")[0]]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for line in lines:
        done = subprocess.run(
            line.replace("SCANS", str(tmp_path / "scans")),
            shell=True,
            cwd=tmp_path / "bundle",
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr[-2000:])
    assert (tmp_path / "bundle" / "eval" / "scan_seg.nii.gz").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("regions", [False, True])
def test_monai_fine_tunes_from_it_and_what_it_saves_is_loaded_again(make, tmp_path, regions: bool) -> None:
    """``train.json`` as its README has it, for an epoch on two scans."""
    pytest.importorskip("ignite", reason="MONAI's trainers are of pytorch-ignite")
    from monai.bundle import ConfigParser, run

    more = {}
    if regions:
        parts = (Region("whole", (1, 2), 1), Region("core", (2,), 2), Region("other", (3,), 3))
        more = {"classes": tuple(part.name for part in parts), "structures": (1, 2, 3), "regions": parts}
    model = make("unet", segmenter=True, **more)
    export_monai_bundle(model, tmp_path / "bundle")
    for name in ("a.nii.gz", "b.nii.gz"):
        (tmp_path / "data" / "labels").mkdir(parents=True, exist_ok=True)
        hounsfield = _scan(tmp_path / "data" / "images", model, name)
        affine = nibabel.load(tmp_path / "data" / "images" / name).affine
        label = (hounsfield > 0).astype(np.uint8).transpose(2, 1, 0)[::-1, ::-1]
        nibabel.save(nibabel.Nifti1Image(label.copy(), affine), tmp_path / "data" / "labels" / name)
    before = torch.load(tmp_path / "bundle/models/model.pt", weights_only=True)
    said = {"bundle_root": str(tmp_path / "bundle"), "dataset_dir": str(tmp_path / "data"), "epochs": 1}
    run(config_file=str(tmp_path / "bundle/configs/train.json"), device="$torch.device('cpu')", **said)
    saved = torch.load(tmp_path / "bundle/models/finetuned.pt", weights_only=True)
    saved = saved.get("model", saved)
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "bundle/configs/inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(saved)
    moved = [key for key in before if not torch.equal(before[key], saved[key])]
    assert len(moved) > len(before) / 2
