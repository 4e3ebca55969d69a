"""SparK: the sheet's numbers, the loss by hand, nothing hidden reaches what is drawn, what is kept."""

from __future__ import annotations

import pytest
import torch

from medssl.decoder import UNetDecoder
from medssl.encoders.table import build_encoder
from medssl.engine.transfer import carry_over
from medssl.methods.masked_window import MaskedViews
from medssl.methods.spark import Densify, LightDecoder, SparK, SparKSettings
from medssl.randomness import Stream
from medssl.views.masking import hidden_count, sample_patch_mask, to_voxels
from tests.perturbing import perturbed

WINDOW = (16, 24, 16)
UNET = {"name": "unet", "channels": [4, 6, 8], "blocks": 1}


def made(**settings) -> SparK:
    torch.manual_seed(4)
    return SparK(SparKSettings(window=WINDOW, **settings), perturbed(build_encoder(UNET)))


def views_of(method: SparK, batch: int = 2) -> MaskedViews:
    draw = torch.Generator().manual_seed(1)
    hidden = sample_patch_mask(Stream(0, 0, range(batch)), shape=WINDOW, patch=method.patch, ratio=0.6)
    target = torch.rand(batch, 1, *WINDOW, generator=draw)
    return MaskedViews(target=target, hidden=hidden, inside=torch.ones_like(target, dtype=torch.bool))


def test_defaults_are_the_papers():
    settings = SparKSettings()
    assert (settings.ratio, settings.normalise, settings.decoder) == (0.6, True, "light")
    assert made().patch == (4, 4, 4)  # the encoder's total stride
    # 224 pixels in patches of 32: round(49 * 0.4) = 20 of 49 stay visible; 384 at 0.75: 36 of 144
    assert 49 - hidden_count((1, 224, 224), (1, 32, 32), 0.6) == 20
    assert 144 - hidden_count((1, 384, 384), (1, 32, 32), 0.75) == 36


@pytest.mark.parametrize("decoder", ["light", "unet"])
def test_hidden_voxels_change_nothing_that_is_drawn(decoder):
    method = made(decoder=decoder).eval()
    views = views_of(method)
    under = to_voxels(views.hidden, method.patch)
    other = MaskedViews(views.target.masked_fill(under, float("nan")), views.hidden, views.inside)
    drawn = method.reconstruct(views)
    assert torch.equal(drawn, method.reconstruct(other))
    assert drawn[under].std() > 0  # hidden places are drawn, and not all alike


def test_loss_by_hand():
    method = made().eval()
    views = views_of(method)
    drawn, target = method.reconstruct(views).detach(), views.target
    errors = []
    for item in range(2):
        for z, y, x in torch.nonzero(views.hidden[item]).tolist():
            box = (item, 0, slice(4 * z, 4 * z + 4), slice(4 * y, 4 * y + 4), slice(4 * x, 4 * x + 4))
            patch = target[box].double()
            scaled = (patch - patch.mean()) / (((patch - patch.mean()) ** 2).sum() / 63 + 1e-6).sqrt()
            errors.append(((drawn[box].double() - scaled) ** 2).mean())
    assert len(errors) == 2 * (96 - 38)
    assert method(views, 0.0).total.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


def test_densify_normalises_fills_and_projects():
    torch.manual_seed(0)
    layer = Densify(3, 5, coarsest=False)
    level, visible = (
        torch.randn(2, 3, 4, 4, 4),
        sample_patch_mask(Stream(0, 0, [0, 1]), shape=(4, 4, 4), patch=(2, 2, 2), ratio=0.5),
    )
    seen = []
    layer.projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer(level, visible)
    places = to_voxels(visible, (2, 2, 2))
    for item in range(2):
        active = seen[0][item][:, places[item, 0]]
        torch.testing.assert_close(active.mean(1), torch.zeros(3), atol=1e-6, rtol=0)
        torch.testing.assert_close(active.var(1, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    filled = seen[0].movedim(1, -1)[~places[:, 0]]
    torch.testing.assert_close(filled, layer.token.flatten().expand_as(filled))
    assert layer.token.abs().max() <= 0.02
    assert isinstance(Densify(6, 6, coarsest=True).projection, torch.nn.Identity)
    assert Densify(6, 5, coarsest=True).projection.kernel_size == (1, 1, 1)


def test_light_decoder_is_the_published_one_at_a_ratio_of_two():
    encoder = build_encoder({"name": "unet", "channels": [4, 6, 8], "strides": [2, 2, [1, 2, 2]]})
    decoder = LightDecoder(encoder, [16, 32, 64])
    assert [tuple(b.up.kernel_size) for b in decoder.blocks] == [(1, 4, 4), (4, 4, 4), (4, 4, 4)]
    dense = [torch.randn(1, w, *s) for w, s in ((16, (4, 8, 8)), (32, (2, 4, 4)), (64, (2, 2, 2)))]
    assert decoder(dense).shape == (1, 1, 8, 16, 16)


def test_light_decoder_is_dropped_and_the_unets_carries_over():
    assert set(made().exported_modules()) == {"encoder"}
    method = made(decoder="unet")
    kept = method.exported_modules()
    assert set(kept) == {"encoder", "decoder"}
    segmenting = UNetDecoder(build_encoder(UNET), 3)
    report = carry_over(kept["decoder"].state_dict(), segmenting, source="a run", part="decoder", minimum_share=0.0)
    assert {row.name for row in report.rows if row.status != "matched"} == {"seg_layers.1.weight", "seg_layers.1.bias"}
    fresh = build_encoder(UNET)
    assert carry_over(kept["encoder"].state_dict(), fresh, source="a run").share == 1.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'mae' or 'simmim'"):
        SparK(SparKSettings(window=WINDOW), build_encoder({"name": "vit", "width": 24, "depth": 1, "heads": 2}))
    with pytest.raises(ValueError, match="multiple of the patch"):
        made(patch=(5, 4, 4))
    with pytest.raises(ValueError, match="Try the encoder's total stride"):
        SparK(SparKSettings(window=(12, 24, 12), patch=(6, 6, 6)), build_encoder(UNET))
