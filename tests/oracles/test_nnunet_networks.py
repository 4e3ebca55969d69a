"""The networks of nnU-Net (dynamic_network_architectures, Apache-2.0) as oracles: our weights, their modules."""

from __future__ import annotations

import pydoc

import pytest
import torch
from torch import nn

from medssl.decoder import SegmentationNetwork, UNetDecoder
from medssl.encoders.table import build_encoder
from medssl.errors import DataError
from medssl.exporting.nnunet_names import (
    architecture,
    encoder_to_nnunet,
    segmenter_to_nnunet,
)
from tests.oracles.nnunet_names import encoder_from_nnunet
from tests.perturbing import perturbed

pytest.importorskip("dynamic_network_architectures")

CASES = {
    "isotropic": {"channels": [4, 8, 12], "blocks": 2},
    "anisotropic": {
        "channels": [4, 4, 8, 8],
        "blocks": [1, 2, 3, 1],
        "strides": [1, [1, 2, 2], 2, [2, 1, 2]],
        "kernels": [[1, 3, 3], 3, 3, [3, 1, 3]],
    },
    "strided_first_stage": {"channels": [4, 8], "blocks": 1, "strides": [2, 2]},
}


def _plan(settings, decoder_convs: int) -> dict:
    return architecture(
        settings.name,
        channels=settings.channels,
        blocks=settings.stage_blocks,
        strides=settings.stage_strides,
        kernels=settings.stage_kernels,
        decoder_convs=decoder_convs,
    )


def _theirs(plan: dict, *, in_channels: int, num_classes: int) -> nn.Module:
    kwargs = {
        key: pydoc.locate(value) if key in plan["_kw_requires_import"] and value else value
        for key, value in plan["arch_kwargs"].items()
    }
    network = pydoc.locate(plan["network_class_name"])(input_channels=in_channels, num_classes=num_classes, **kwargs)
    return network.eval()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["residual", "unet"])
def test_encoder_equals_theirs(name: str, case: str) -> None:
    ours = perturbed(build_encoder({"name": name, "in_channels": 2, **CASES[case]})).eval()
    theirs = _theirs(_plan(ours.settings, 1), in_channels=2, num_classes=2).encoder
    theirs.load_state_dict(encoder_to_nnunet(ours.state_dict(), name), strict=True)
    images = torch.rand(2, 2, 16, 16, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for a, b in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["residual", "unet"])
def test_their_weights_load_into_ours(name: str) -> None:
    """Biases of theirs are drawn at random: the norm behind them must make that no difference."""
    ours = build_encoder({"name": name, **CASES["anisotropic"]}).eval()
    theirs = perturbed(_theirs(_plan(ours.settings, 2), in_channels=1, num_classes=3), seed=5)
    ours.load_state_dict(encoder_from_nnunet(theirs.state_dict(), name), strict=True)
    images = torch.rand(1, 1, 16, 16, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for a, b in zip(ours(images), theirs.encoder(images), strict=True):
            torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("case", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("name", ["residual", "unet"])
def test_segmenter_equals_theirs(name: str, case: str, deep_supervision: bool) -> None:
    encoder = build_encoder({"name": name, **CASES[case]})
    decoder = UNetDecoder(encoder, 3, convs_per_stage=2, deep_supervision=deep_supervision)
    ours = perturbed(SegmentationNetwork(encoder, decoder)).eval()
    theirs = _theirs(_plan(encoder.settings, 2), in_channels=1, num_classes=3)
    theirs.load_state_dict(segmenter_to_nnunet(ours.state_dict(), name), strict=True)
    images = torch.rand(2, 1, 16, 16, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["residual", "unet"])
def test_random_weights_are_drawn_as_theirs_are(name: str) -> None:
    settings = {"name": name, "channels": [16, 32], "blocks": 2}
    torch.manual_seed(0)
    ours = build_encoder(settings)
    network = _theirs(_plan(ours.settings, 1), in_channels=1, num_classes=2)
    network.apply(network.initialize)
    mapped = encoder_from_nnunet(network.state_dict(), name)
    assert mapped.keys() == ours.state_dict().keys()
    for key, drawn in ours.state_dict().items():
        assert drawn.mean().item() == pytest.approx(mapped[key].mean().item(), abs=0.08), key
        assert drawn.std().item() == pytest.approx(mapped[key].std().item(), rel=0.15, abs=1e-6), key


def test_what_they_have_not_is_refused() -> None:
    with pytest.raises(DataError, match="swin"):
        encoder_to_nnunet({}, "swin")
    with pytest.raises(DataError, match=r"stages\.0\.odd"):
        encoder_to_nnunet({"stages.0.odd.weight": torch.zeros(1)}, "unet")
