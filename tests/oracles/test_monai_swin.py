"""MONAI's Swin UNETR as the oracle of the Swin encoder: state dicts carry over by name, features agree."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SwinUNETR

from medssl.encoders.table import build_encoder
from medssl.errors import ConfigError


@pytest.mark.parametrize("use_v2", [False, True])
def test_features_are_those_of_swin_unetr(use_v2: bool) -> None:
    sizes = {"feature_size": 12, "depths": (1, 1, 1, 1), "use_v2": use_v2}
    torch.manual_seed(0)
    theirs = SwinUNETR(in_channels=1, out_channels=2, num_heads=(2, 2, 2, 2), window_size=4, **sizes).eval()
    ours = build_encoder({"name": "swin", "heads": (2, 2, 2, 2), "window": 4, **sizes}).eval()
    missing, extra = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert missing == []
    assert {key.split(".")[0] for key in extra} == {"decoder1", "decoder2", "decoder3", "decoder4", "decoder5", "out"}
    images = torch.rand(1, 1, 64, 64, 64)
    with torch.no_grad():
        enc0, enc1, enc2, enc3, hidden, bottom = ours(images)
        features = theirs.decoder5(bottom, hidden)
        for decoder, skip in (
            (theirs.decoder4, enc3), (theirs.decoder3, enc2), (theirs.decoder2, enc1), (theirs.decoder1, enc0),
        ):  # fmt: skip
            features = decoder(features, skip)
        torch.testing.assert_close(theirs.out(features), theirs(images), atol=1e-5, rtol=1e-5)


def test_sizes_that_monai_would_refuse_are_refused_before() -> None:
    with pytest.raises(ConfigError, match=r"multiple of 12\. Got 20\. Try 24"):
        build_encoder({"name": "swin", "feature_size": 20})
