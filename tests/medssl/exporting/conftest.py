"""Small networks with perturbed weights, as a run would leave them."""

from __future__ import annotations

import pytest
import torch

from medssl.decoder import SegmentationNetwork, UNetDecoder
from medssl.encoders.table import build_encoder
from medssl.exporting.exportable import Exportable
from tests.perturbing import perturbed

SETTINGS = {
    "unet": {"channels": [4, 8, 12]},
    "residual": {"channels": [4, 8, 12], "blocks": [1, 2, 1], "strides": [1, [1, 2, 2], 2]},
    "swin": {"feature_size": 12, "depths": [1, 1, 1, 1], "heads": [2, 2, 2, 2], "window": 4},
    "vit": {"width": 24, "depth": 3, "heads": 2, "patch": 4},
}


@pytest.fixture
def make():
    """Return a maker of exportables: kind of encoder, segmenter or not, and changes."""

    def made(
        name: str, *, segmenter: bool, convs: int = 2, in_channels: int = 1, pool: str = "mean", **more
    ) -> Exportable:
        torch.manual_seed(3)
        network = encoder = build_encoder({"name": name, "in_channels": in_channels, "pool": pool, **SETTINGS[name]})
        if segmenter:
            network = SegmentationNetwork(encoder, UNetDecoder(encoder, 3, convs_per_stage=convs))
            more = {"classes": ("background", "liver", "spleen"), "structures": (0, 1, 2), **more}
        window = (64, 64, 64) if name == "swin" else (12, 16, 20)
        return Exportable(
            **{
                "name": "small", "network": perturbed(network).eval(), "window": window,
                "spacing_mm": (2.0, 1.5, 1.0), "intensity": (-1000.0, 1000.0), **more,
            }
        )  # fmt: skip

    return made
