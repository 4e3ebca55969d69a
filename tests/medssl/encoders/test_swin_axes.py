"""Swin encoders of weights that saw (x, y, z): images are turned before the network, features back, masks too."""

from __future__ import annotations

import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.methods.masked_window import MaskedViews
from medssl.methods.table import METHODS, build_method

SMALL = {"name": "swin", "feature_size": 12, "depths": (1, 1, 1, 1), "heads": (1, 1, 1, 1), "window": 4}


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(3)
    plain = build_encoder({**SMALL, "merging": "legacy", "use_v2": False, "in_channels": 1})
    turned = build_encoder({**plain.settings.model_dump(), "axes": "xyz"})
    turned.load_state_dict(plain.state_dict())
    return plain.eval(), turned.eval()


@torch.no_grad()
def test_it_is_the_network_of_the_turned_images(pair) -> None:
    plain, turned = pair
    images = torch.rand(1, 1, 32, 64, 64, generator=torch.Generator().manual_seed(1))
    for kind in ("mean", "prenorm"):
        plain.pool_by(kind)
        turned.pool_by(kind)
        there, vector = plain(images.transpose(2, 4), pooled=True)
        here, own = turned(images, pooled=True)
        assert all(torch.equal(a, b.transpose(2, 4)) for a, b in zip(here, there, strict=True))
        torch.testing.assert_close(own, vector)


@torch.no_grad()
def test_what_is_hidden_is_hidden_where_it_lies(pair) -> None:
    settings = METHODS.settings_class("simmim")(window=(32, 64, 64), patch=(16, 16, 16))
    methods = [build_method(settings, encoder) for encoder in pair]
    methods[1].load_state_dict(methods[0].state_dict())
    images = torch.rand(1, 1, 32, 64, 64, generator=torch.Generator().manual_seed(2))
    hidden = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    hidden[0, 0, 1, 2] = hidden[0, 1, 3, 0] = True
    inside = torch.ones_like(images, dtype=torch.bool)
    turned = MaskedViews(images.transpose(2, 4), hidden.transpose(1, 3), inside.transpose(2, 4))
    there = methods[0].encode_masked(turned)
    here = methods[1].encode_masked(MaskedViews(images, hidden, inside))
    torch.testing.assert_close(here[-1], there[-1].transpose(2, 4))
