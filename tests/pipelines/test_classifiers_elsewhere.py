"""A classifier's temperature and threshold go wherever it goes: exports, loading, predicting, scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import medssl
from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, save_encoder
from medssl.errors import DataError
from medssl.evaluation.calibration import Decision, decision_words, mean_decision, read_decision
from medssl.formats.nifti import write_nifti
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import ClassificationTask
from medssl.workflows.export import export
from tests.perturbing import perturbed

CHOSEN = {"temperature": 2.5, "threshold": 0.31, "cases": 9, "why": ""}
CLASSES = ("well", "ill")


def classifier(folder, *, window=(16, 16, 8), **settings):
    """Write a classifier's run with a temperature and threshold that change what it says."""
    torch.manual_seed(3)
    encoder = build_encoder({"name": "unet", "channels": [4, 8]})
    task = ClassificationTask(ClassificationSettings(target="d", window=window, **settings), encoder, CLASSES)
    perturbed(task.network)
    card = Card(
        encoder=encoder.settings.model_dump(mode="json"), in_channels=1, channels=encoder.channels,
        strides=encoder.strides, window=window, spacing_mm=(1.0, 1.0, 1.0), modality="CT", scale=(-1000.0, 1000.0),
        method=task.described(start=""),
        data={"store_settings": {"spacing_mm": [1.0, 1.0, 1.0]}, "predicts": {"precision": "32-true"}},
    )  # fmt: skip
    folder.mkdir()
    save_encoder(encoder, card, folder, others={"network": task.network})
    (folder / "decision.json").write_text(json.dumps(CHOSEN))
    return folder, task.eval()


def softmax(logits, temperature):
    scaled = np.exp(np.asarray(logits, np.float64) / temperature)
    return scaled / scaled.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("level", "window"), [("volume", (16, 16, 8)), ("slice", (2, 16, 16)), ("set", (2, 16, 16))])
def test_onnx_gives_calibrated_probabilities_and_says_the_threshold(tmp_path, level, window):
    from medssl.exporting.onnx import run_onnx

    run, task = classifier(tmp_path / "run", window=window, level=level)
    export(run, to="onnx", out=tmp_path / "c.onnx")
    images = torch.rand(3, 1, *window, generator=torch.Generator().manual_seed(7))
    logits, probability = run_onnx(tmp_path / "c.onnx", images)
    with torch.no_grad():
        expected = task.network(images, 3 if level == "set" else 1).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    np.testing.assert_allclose(probability, softmax(expected, 2.5), atol=1e-5)
    said = json.loads((tmp_path / "c.json").read_text())
    assert (said["kind"], said["classes"], said["looks_at"]["level"]) == ("classifier", list(CLASSES), level)
    assert {key: said["decision"][key] for key in CHOSEN} == CHOSEN
    assert "ill is predicted from 0.31 on" in said["decision"]["how"]


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_a_monai_bundle_says_what_the_model_says(tmp_path, fit):
    from monai.bundle import ConfigParser

    run, _ = classifier(tmp_path / "run", fit=fit)
    export(run, to="monai", out=tmp_path / "bundle")
    (tmp_path / "scans").mkdir()
    for number, shape in enumerate([(16, 16, 8), (21, 18, 13), (24, 40, 30)]):
        values = np.random.default_rng(number).integers(100, 900, shape).astype(np.int16)  # body everywhere
        if number < 2:  # air inside; values without any below 0 count as no HU, and are scaled by their percentiles
            values[4:9, 4:9, 2:6] = -900
        write_nifti(tmp_path / "scans" / f"s{number}.nii.gz", values, np.diag([1.0, 1.0, 1.0, 1.0]))
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "bundle/configs/inference.json"))
    parser.update({"bundle_root": str(tmp_path / "bundle"), "device": "$torch.device('cpu')",
                   "dataset_dir": str(tmp_path / "scans")})  # fmt: skip
    parser.get_parsed_content("run")
    rows = json.loads((tmp_path / "bundle/eval/classes.json").read_text())
    model = medssl.load_model(run, device="cpu")
    assert [row["file"] for row in rows] == ["s0.nii.gz", "s1.nii.gz", "s2.nii.gz"]
    for row in rows:
        ours = model.predict(tmp_path / "scans" / row["file"], modality="CT")
        assert row["probability"]["ill"] == pytest.approx(ours.probabilities["ill"], abs=2e-3), row["file"]
        assert row["predicted"] == ours.predicted
        assert row["predicted"] == CLASSES[row["probability"]["ill"] >= 0.31]
    assert "ill is predicted from 0.31 on" in (tmp_path / "bundle/docs/README.md").read_text()


def test_a_bundle_of_slices_is_refused_with_what_there_is(tmp_path):
    run, _ = classifier(tmp_path / "run", window=(2, 16, 16), level="slice")
    with pytest.raises(DataError, match="export it to onnx"):
        export(run, to="monai", out=tmp_path / "bundle")


def test_moved_as_safetensors_it_decides_as_before(tmp_path, capsys):
    run, task = classifier(tmp_path / "run")
    export(run, to="safetensors", out=tmp_path / "moved")
    assert read_decision(tmp_path / "moved", CLASSES) == Decision(**CHOSEN)
    values = np.random.default_rng(0).integers(-800, 900, (16, 16, 8)).astype(np.int16)
    here, there = (medssl.load_model(folder, device="cpu") for folder in (run, tmp_path / "moved"))
    assert here.decision == there.decision == Decision(**CHOSEN)
    assert "softmax(logits / 2.5); ill is predicted from 0.31 on" in repr(there)
    one, other = (model.predict(values, spacing_mm=(1, 1, 1), modality="CT") for model in (here, there))
    assert (one.predicted, one.probabilities) == (other.predicted, other.probabilities)
    with torch.no_grad():
        images = torch.rand(2, 1, 16, 16, 8)
        assert torch.equal(medssl.load(run)(images), task.network(images))
    assert "ill is predicted from 0.31 on" in capsys.readouterr().out


def test_to_nnunet_the_encoder_goes_alone_and_that_is_said(tmp_path, capsys):
    run, _ = classifier(tmp_path / "run")
    result = export(run, to="nnunet", out=tmp_path / "nnunet")
    assert {path.name for path in result.written} >= {"pretrained.pth", "architecture.json"}
    assert "nnU-Net has no classifiers" in capsys.readouterr().err
    assert json.loads((tmp_path / "nnunet/medssl.json").read_text())["kind"] == "encoder"


def test_a_mean_of_runs_is_not_told_as_one_temperature():
    mean = mean_decision([Decision(temperature=2.0, threshold=0.4, cases=8), Decision(threshold=0.6, cases=6)])
    said = decision_words(mean, CLASSES)
    assert "softmax" not in said
    assert "the mean over 2 runs, each at its own temperature; ill is predicted from 0.5 on" in said
