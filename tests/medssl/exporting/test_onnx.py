from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from medssl.errors import DataError
from medssl.exporting.exportable import example_input
from medssl.exporting.onnx import export_onnx, run_onnx

pytest.importorskip("onnxruntime")


def test_encoder_gives_levels_and_embedding(make, tmp_path) -> None:
    model = make("unet", segmenter=False)
    model.network.train()
    report = export_onnx(model, tmp_path / "encoder.onnx")
    assert model.network.training
    assert report.outputs == ["level_0", "level_1", "level_2", "embedding"]
    assert report.inputs == {"images": ["batch", 1, 12, 16, 20]}
    assert 0.0 < report.max_difference < 1e-3 < report.max_output
    images = example_input(model, batch=5, seed=9)
    with torch.no_grad():
        expected = model.encoder.eval().embed(images).numpy()
    np.testing.assert_allclose(run_onnx(report.path, images)[-1], expected, atol=1e-4)
    card = json.loads((tmp_path / "encoder.json").read_text())
    assert card["input"]["spacing_mm_zyx"] == [2.0, 1.5, 1.0]
    assert card["onnx"]["opset"] == report.opset


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("unet", "grid"),
        *(
            pytest.param(name, pool, marks=pytest.mark.slow)
            for name in ("unet", "residual", "vit")
            for pool in ("prenorm", "grid", "levels", "attention")
            if (name, pool) != ("unet", "grid")
        ),
    ],
)
def test_the_embedding_is_pooled_as_the_encoder_pools(make, tmp_path, name: str, pool: str) -> None:
    model = make(name, segmenter=False, pool=pool)
    report = export_onnx(model, tmp_path / "encoder.onnx", dynamic_size=name == "unet")
    images = example_input(model, batch=3, seed=9, size=(12, 16, 28) if name == "unet" else None)
    with torch.no_grad():
        expected = model.encoder.embed(images).numpy()
    found = run_onnx(report.path, images)[-1]
    assert found.shape == (3, model.encoder.embedding_dim)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert json.loads((tmp_path / "encoder.json").read_text())["encoder"]["pool"] == pool


def test_opset_in_the_file_is_the_one_reported(make, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    report = export_onnx(make("unet", segmenter=False), tmp_path / "encoder.onnx")
    assert {entry.version for entry in onnx.load(report.path).opset_import if entry.domain == ""} == {report.opset}


def test_segmenter_of_any_size(make, tmp_path) -> None:
    model = make("residual", segmenter=True, convs=1)
    report = export_onnx(model, tmp_path / "segmenter.onnx", dynamic_size=True)
    assert report.inputs == {"images": ["batch", 1, "z", "y", "x"]}
    images = example_input(model, batch=1, size=(8, 24, 32))
    with torch.no_grad():
        np.testing.assert_allclose(run_onnx(report.path, images)[0], model.network(images), atol=1e-3)


def test_what_differs_is_not_kept(make, tmp_path) -> None:
    with pytest.raises(DataError, match="differs from torch"):
        export_onnx(make("unet", segmenter=False), tmp_path / "encoder.onnx", tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_attention_windows_bind_the_size(make, tmp_path) -> None:
    for name in ("swin", "vit"):
        with pytest.raises(DataError, match="attention windows or positions"):
            export_onnx(make(name, segmenter=False), tmp_path / "encoder.onnx", dynamic_size=True)


@pytest.mark.parametrize("segmenter", [False, True])
def test_vit(make, tmp_path, segmenter) -> None:
    report = export_onnx(make("vit", segmenter=segmenter), tmp_path / "network.onnx")
    assert report.max_difference < 1e-3 < report.max_output


@pytest.mark.slow
def test_swin(make, tmp_path) -> None:
    report = export_onnx(make("swin", segmenter=False), tmp_path / "encoder.onnx")
    assert report.max_difference < 1e-3
