"""What goes along with exports and needs NumPy alone, against the store, which goes by SciPy and scikit-image."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medssl.exporting.alone import medssl_input as alone
from medssl.exporting.exportable import ExportInput
from medssl.loading import channel_facts
from medssl.manifest.scales import HU, scale_of
from medssl.normalising import Numbers
from medssl.store.body import find_body
from medssl.store.normalised import normalised
from medssl.store.read import Store
from medssl.store.resample import to_spacing
from medssl.windows import as_input
from medssl.workflows.cache import cache
from medssl.workflows.index import index

FIXED: Numbers = (-900.0, 300.0, 20.0, 130.0)


def body(seed: int, *, hounsfield: bool) -> np.ndarray:
    """Return two bodies of noise in air, one larger, (z, y, x)."""
    draw = np.random.default_rng(seed)
    values = draw.normal(-990 if hounsfield else 3, 4, (22, 40, 31))
    values[4:18, 6:30, 5:26] = draw.normal(40 if hounsfield else 300, 60, (14, 24, 21))
    values[2:5, 34:37, 27:30] = 200
    return values.round().astype(np.int16)


@pytest.mark.parametrize("hounsfield", [True, False])
def test_the_body_is_found_where_the_store_finds_it(hounsfield: bool) -> None:
    for seed in range(4):
        values = body(seed, hounsfield=hounsfield)
        assert alone.body_of(values, hounsfield=hounsfield) == find_body(values, hounsfield=hounsfield)
    large = np.repeat(np.repeat(values, 5, axis=1), 4, axis=2)  # beyond 96 voxels an edge: block means
    assert alone.body_of(large, hounsfield=hounsfield) == find_body(large, hounsfield=hounsfield)
    flat = np.zeros((5, 6, 7), np.int16)
    assert alone.body_of(flat, hounsfield=hounsfield) == find_body(flat, hounsfield=hounsfield)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("spacing", [(2.0, 1.3, 0.7), (1.1, 3.7, 1.0)])
def test_resampling_is_the_stores(order: int, spacing: tuple[float, float, float]) -> None:
    values = body(1, hounsfield=True)
    ours, _ = to_spacing(values, np.eye(4), spacing, order=order)
    np.testing.assert_allclose(alone.resampled(values, np.array(spacing), order=order), ours, atol=2e-3)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-1000, 900, 50),
        np.linspace(0, 1, 50),
        np.linspace(0, 255, 52),
        np.linspace(0, 2500, 50),
        np.linspace(0, 700, 50),
        np.linspace(-3.0, 5.0, 50),
    ],
)
def test_hounsfield_are_told_from_the_rest_as_the_index_tells_them(values: np.ndarray) -> None:
    facts = {
        "min": values.min(),
        "max": values.max(),
        "p50": np.percentile(values, 50),
        "p995": np.percentile(values, 99.5),
        "dtype": str(values.dtype),
        "format": "nifti",
    }
    assert alone.in_hounsfield(values) == (scale_of(facts) == HU)


@pytest.mark.parametrize(
    "settings",
    [
        ["spacing_mm=[2,2,2]"],
        ["crop=true", "crop_margin_mm=3"],
        ["grid=nnunet", "spacing_mm=[5.3,2.2,1.3]"],
        ["grid=nnunet", "spacing_mm=[2,2,2]", "crop=true", "crop_margin_mm=3"],
    ],
)
@pytest.mark.parametrize(
    ("modality", "scheme", "numbers"),
    [
        ("CT", "unit", None),
        ("CT", "nnunet", FIXED),
        ("CT", "zscore", None),
        ("MR", "unit", None),
        ("MR", "zscore", None),
        ("MR", "nonzero", None),
    ],
)
def test_the_input_is_the_stores(tmp_path: Path, make, settings, modality: str, scheme, numbers) -> None:
    values = body(2, hounsfield=modality == "CT")
    name = "a_ct.nii.gz" if modality == "CT" else "a_T1w.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([1.0, 1.5, 3.0, 1.0])), tmp_path / name)
    index(tmp_path, out=tmp_path / "m.parquet", overrides=[])
    cache(tmp_path / "m.parquet", out=tmp_path / "store", overrides=settings)
    store = normalised(Store.open(tmp_path / "store"), [(scheme, numbers)])
    (entry,) = store.entries
    assert entry.modality == modality
    scale, _ = channel_facts([entry])
    wanted = as_input(torch.from_numpy(store.values(0, 0))[None, None], scale)[0]
    asked = next((tuple(json.loads(s[11:])) for s in settings if s.startswith("spacing_mm=")), None)
    channel = ExportInput("a", modality, (-1000.0, 1000.0) if modality == "CT" else None, scheme, numbers)
    model = replace(
        make("unet", segmenter=False, inputs=(channel,)),
        spacing_mm=asked or entry.spacing_mm,
        grid="nnunet" if "grid=nnunet" in settings else "spacing",
        crop_mm=3.0 if "crop=true" in settings else None,
    )
    said = json.loads(json.dumps(model.preparing()))
    case = alone.to_stored([values], (3.0, 1.5, 1.0), said)
    np.testing.assert_array_equal(case.box, entry.body_box)
    np.testing.assert_allclose(case.as_input(case.values), wanted.numpy(), atol=2e-3)
    assert case.fills[0] == pytest.approx(entry.padding, abs=0.5)


def test_what_goes_along_needs_nothing_of_this_project() -> None:
    folder = Path(alone.__file__).parent
    for path in folder.glob("*.py"):
        assert "import medssl\n" not in path.read_text()
        assert "from medssl." not in path.read_text()
    assert "seen" in runpy.run_path(str(folder / "medssl_input.py"))
    done = subprocess.run(
        [sys.executable, str(folder / "run_onnx.py")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "numpy, nibabel and onnxruntime alone" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["fixed", "even"])
def test_the_script_segments_whole_scans_as_predict_does(make, tmp_path: Path, steps: str) -> None:
    from medssl.exporting.onnx import export_onnx

    model = make("unet", segmenter=True)
    export_onnx(replace(model, steps=steps, spacing_mm=(2.0, 2.0, 2.0)), tmp_path / "net.onnx")
    values = body(3, hounsfield=True)
    turned = np.diag([-1.0, 1.5, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0)[::-1], turned), tmp_path / "a_ct.nii.gz")
    command = [sys.executable, "run_onnx.py", "net.onnx", "out", "a_ct.nii.gz"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    found = nibabel.load(tmp_path / "out/a_ct_seg.nii.gz")
    np.testing.assert_allclose(found.affine, turned)

    from medssl.tasks.inference import InferenceSettings, label_values, probabilities_of
    from medssl.tasks.outputs import ClassOutput

    index(tmp_path, out=tmp_path / "m.parquet")
    cache(tmp_path / "m.parquet", out=tmp_path / "store", overrides=["spacing_mm=[2,2,2]"])
    store = Store.open(tmp_path / "store")
    output = ClassOutput((0, 1, 2))
    ours = probabilities_of(model.network, store, 0, model.window, InferenceSettings(steps=steps), output=output)
    expected = label_values(output, ours, store.entries[0], steps=steps)
    theirs = np.asarray(found.dataobj).transpose(2, 1, 0)  # both lie on the grid of the file
    assert theirs.shape == expected.shape
    assert len(np.unique(expected)) > 1
    assert (theirs == expected).mean() > 0.999
