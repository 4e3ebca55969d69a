"""MAE against the authors' recipe written out, and what must not leak."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medssl.encoders.table import build_encoder
from medssl.encoders.transformer import sincos_positions
from medssl.methods.mae import MAE, MAESettings
from medssl.methods.masked_window import MaskedViews
from medssl.randomness import Stream
from medssl.views.masking import sample_patch_mask, to_voxels
from tests.perturbing import perturbed

WINDOW, PATCH = (8, 16, 12), (4, 4, 4)


def made(**settings) -> MAE:
    torch.manual_seed(4)
    encoder = build_encoder({"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch": 4})
    chosen = {"decoder_width": 20, "decoder_depth": 1, "decoder_heads": 2, **settings}
    return perturbed(MAE(MAESettings(window=WINDOW, **chosen), encoder)).eval()


def views_of(batch: int = 2) -> MaskedViews:
    hidden = sample_patch_mask(Stream(0, 0, range(batch)), shape=WINDOW, patch=PATCH, ratio=0.75)
    target = torch.rand(batch, 1, *WINDOW, generator=torch.Generator().manual_seed(1))
    return MaskedViews(target=target, hidden=hidden, inside=torch.ones_like(target, dtype=torch.bool))


def block(weights: dict[str, torch.Tensor], name: str, x: torch.Tensor, heads: int) -> torch.Tensor:
    """A pre-norm transformer block for one item (N, width), written out head by head."""
    w = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
    size = x.shape[1] // heads

    def norm(values, which):
        centred = values - values.mean(1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        return scaled * w[f"{which}.weight"] + w[f"{which}.bias"]

    q, k, v = (norm(x, "norm1") @ w["attn.qkv.weight"].T + w["attn.qkv.bias"]).chunk(3, dim=1)
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        mixed.append((q[:, part] @ k[:, part].T / size**0.5).softmax(1) @ v[:, part])
    x = x + torch.cat(mixed, 1) @ w["attn.proj.weight"].T + w["attn.proj.bias"]
    inner = norm(x, "norm2") @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    return x + inner @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]


def test_loss_is_that_of_the_recipe_written_out():
    method, views = made(), views_of()
    w = {k: v.detach() for k, v in method.state_dict().items()}
    errors = []
    for item in range(2):
        cells = [(z, y, x) for z in range(2) for y in range(4) for x in range(3)]
        boxes = [tuple(slice(4 * n, 4 * n + 4) for n in cell) for cell in cells]
        patches = torch.stack([views.target[item, 0][box].flatten() for box in boxes])
        hidden = [bool(views.hidden[item][cell]) for cell in cells]
        visible = [i for i, h in enumerate(hidden) if not h]
        tokens = patches @ w["encoder.patch_embed.proj.weight"].flatten(1).T + w["encoder.patch_embed.proj.bias"]
        x = (tokens + sincos_positions((2, 4, 3), 24))[visible]
        for number in range(2):
            x = block(w, f"encoder.blocks.{number}", x, 2)
        x = functional.layer_norm(x, (24,), w["encoder.norm.weight"], w["encoder.norm.bias"], 1e-6)
        x = x @ w["into_decoder.weight"].T + w["into_decoder.bias"]
        full = w["mask_token"][0].repeat(24, 1)
        full[visible] = x
        full = block(w, "blocks.0", full + sincos_positions((2, 4, 3), 20), 2)
        full = functional.layer_norm(full, (20,), w["norm.weight"], w["norm.bias"], 1e-6)
        drawn = full @ w["head.weight"].T + w["head.bias"]
        wanted = (patches - patches.mean(1, keepdim=True)) / (patches.var(1, keepdim=True) + 1e-6).sqrt()
        errors += [(drawn[i] - wanted[i]).square().mean() for i, h in enumerate(hidden) if h]
    assert len(errors) == 2 * 18
    assert method(views, 0.0).total.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_hidden_voxels_reach_nothing_and_the_encoder_sees_a_quarter():
    method, views = made(), views_of()
    seen = []
    method.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    under = to_voxels(views.hidden, PATCH)
    drawn = method.reconstruct(views)
    assert seen == [(2, 6, 24)]
    other = MaskedViews(torch.where(under, torch.rand_like(views.target), views.target), views.hidden, views.inside)
    assert torch.equal(drawn, method.reconstruct(other))
    third = MaskedViews(torch.where(under, views.target, 1 - views.target), views.hidden, views.inside)
    assert not torch.allclose(drawn, method.reconstruct(third), atol=1e-3)


def test_only_the_encoder_is_kept_and_only_a_plain_transformer_is_taken():
    assert set(made().exported_modules()) == {"encoder"}
    with pytest.raises(ValueError, match="'spark' or 'masked'"):
        MAE(MAESettings(window=WINDOW), build_encoder({"name": "unet", "channels": [4, 8]}))
    with pytest.raises(ValueError, match="multiple"):
        MAE(MAESettings(window=(8, 18, 12)), build_encoder({"name": "vit", "patch": 4, "depth": 1}))
    with pytest.raises(ValueError, match="decoder_heads must divide"):
        MAESettings(decoder_width=20, decoder_heads=3)
