from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch

from medssl.decoder import SegmentationNetwork
from medssl.errors import DataError
from medssl.exporting.exportable import example_input
from medssl.exporting.monai_network import dynunet_state
from medssl.exporting.nnunet import NNUNET_VERSION, export_pretrained_weights, export_trained_model, starting_network

nnunetv2 = pytest.importorskip("nnunetv2")


def _network_of(plan: dict, *, classes: int, deep_supervision: bool = False) -> torch.nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    return get_network_from_plans(
        plan["network_class_name"],
        plan["arch_kwargs"],
        plan["_kw_requires_import"],
        1,
        classes,
        deep_supervision=deep_supervision,
    )


def test_the_version_that_is_named_is_the_one_tested() -> None:
    from importlib.metadata import version

    assert version("nnunetv2") == NNUNET_VERSION


@pytest.mark.parametrize("segmenter", [False, True])
@pytest.mark.parametrize("name", ["residual", "unet"])
def test_training_starts_from_the_weights(make, tmp_path, name: str, segmenter: bool) -> None:
    """By the function that ``nnUNetv2_train -pretrained_weights`` calls, with another number of classes."""
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    model = make(name, segmenter=segmenter)
    written = export_pretrained_weights(model, tmp_path, start=starting_network(model, seed=4))
    assert all(path.is_file() for path in written)
    plan = json.loads((tmp_path / "architecture.json").read_text())
    theirs = _network_of(plan, classes=7, deep_supervision=True).eval()
    load_pretrained_weights(theirs, str(tmp_path / "pretrained.pth"))
    images = example_input(model)
    with torch.no_grad():
        for ours, their in zip(model.encoder(images), theirs.encoder(images), strict=True):
            torch.testing.assert_close(ours, their, atol=5e-5, rtol=1e-4)
        assert theirs(images)[0].shape == (2, 7, *model.window)
    assert "2 x 1.5 x 1 mm" in (tmp_path / "README.md").read_text()


def test_attention_over_places_stays_behind(make, tmp_path) -> None:
    plain, pooled = make("unet", segmenter=True), make("unet", segmenter=True, pool="attention")
    written = []
    for model in (plain, pooled):
        export_pretrained_weights(model, tmp_path, start=starting_network(model, seed=4))
        written.append(torch.load(tmp_path / "pretrained.pth", weights_only=True)["network_weights"].keys())
    assert written[0] == written[1]
    assert dynunet_state(pooled.network.state_dict()).keys() == dynunet_state(plain.network.state_dict()).keys()


def test_the_fresh_decoder_is_a_function_of_the_seed(make, tmp_path) -> None:
    model = make("unet", segmenter=False)
    before = torch.random.get_rng_state()
    states = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        export_pretrained_weights(model, tmp_path / folder, start=starting_network(model, seed=seed))
        states.append(torch.load(tmp_path / folder / "pretrained.pth", weights_only=True)["network_weights"])
    key = "decoder.stages.0.convs.0.conv.weight"
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("name", "convs"), [("residual", 1), ("unet", 2)])
def test_their_predictor_segments_as_we_do(make, tmp_path, name: str, convs: int) -> None:
    """A scan of one window in another orientation: read, reoriented, scaled and segmented by nnU-Net itself."""
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    model = make(name, segmenter=True, convs=convs)
    export_trained_model(model, tmp_path / "model")
    # it sums windows in half precision, where the small weights of a Gaussian would drown the corners
    predictor = nnUNetPredictor(use_gaussian=False, use_mirroring=False, device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(tmp_path / "model"), ("all",), "checkpoint_final.pth")

    hounsfield = np.random.default_rng(0).integers(-1400, 1400, model.window).astype(np.int16)  # (z, y, x), RAS+
    hounsfield[hounsfield == 0] = 1
    spacing = np.diag([*model.spacing_mm[::-1], 1.0])
    flipped = spacing @ np.diag([-1.0, -1.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(hounsfield.transpose(2, 1, 0)[::-1, ::-1], flipped), tmp_path / "scan.nii.gz")
    image, properties = NibabelIOWithReorient().read_images([str(tmp_path / "scan.nii.gz")])
    theirs = predictor.predict_single_npy_array(image, properties, None, None, False)

    ours = torch.from_numpy(hounsfield).float().add(1000).div(2000).clamp(0, 1)[None, None]
    with torch.no_grad():
        logits = model.network(ours)[0]
    margin = logits.topk(2, dim=0).values
    sure = (margin[0] - margin[1] > 0.05).numpy()
    assert sure.mean() > 0.5
    assert np.array_equal(theirs[sure], logits.argmax(0).numpy()[sure])


def test_what_nnunet_has_not_is_refused(make, tmp_path) -> None:
    with pytest.raises(DataError, match="is an encoder"):
        export_trained_model(make("unet", segmenter=False), tmp_path)
    for name in ("swin", "vit"):
        with pytest.raises(DataError, match=name):
            export_pretrained_weights(make(name, segmenter=False), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_exporting_leaves_the_network_alone(make, tmp_path) -> None:
    model = make("residual", segmenter=True)
    assert isinstance(model.network, SegmentationNetwork)
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    export_trained_model(model, tmp_path)
    assert all(torch.equal(before[key], value) for key, value in model.network.state_dict().items())
