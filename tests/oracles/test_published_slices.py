"""Networks of slices: timm's and torchvision's own, saved under their makers' names, imported for one channel."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from medssl.engine.card import load_card, load_encoder
from medssl.errors import DataError
from medssl.workflows.import_weights import import_weights
from tests.oracles.authors_stages import jittered

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def _timm(model: str) -> nn.Module:
    torch.manual_seed(3)
    return jittered(timm.create_model(model, num_classes=0, dynamic_img_size=True))


def _slices(patch: int) -> torch.Tensor:
    """Return (batch, 1, z, y, x), sizes that differ."""
    return torch.rand(1, 1, 2, 2 * patch, 3 * patch, generator=torch.Generator().manual_seed(4))


def _as_photographs(slices: torch.Tensor, colours) -> torch.Tensor:
    means, deviations = (torch.tensor(values).view(1, 3, 1, 1) for values in colours)
    return (slices[0].transpose(0, 1).expand(-1, 3, -1, -1) - means) / deviations


def _relative(run: Path, slices: torch.Tensor, theirs: torch.Tensor) -> float:
    with torch.no_grad():
        (ours,) = load_encoder(run)(slices)
    level = ours[0].transpose(0, 1)
    return float((level - theirs).norm() / theirs.norm())


def _tokens(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        last = network.forward_features(images)[:, network.num_prefix_tokens :]
    rows, columns = (length // network.patch_embed.patch_size[0] for length in images.shape[2:])
    return last.transpose(1, 2).unflatten(2, (rows, columns))


def _makers_dinov2(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state as the makers have it: registers apart, the class token's place in the table."""
    state = dict(network.state_dict())
    state["mask_token"] = torch.zeros(1, network.embed_dim)
    if "reg_token" in state:
        state["register_tokens"] = state.pop("reg_token")
        place = torch.randn(1, 1, network.embed_dim)
        state["cls_token"] = state["cls_token"] - place
        state["pos_embed"] = torch.cat((place, state["pos_embed"]), dim=1)
    return state


@pytest.mark.parametrize("model", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_dinov2_sees_a_slice_as_a_grey_photograph(tmp_path: Path, model: str, record_property) -> None:
    theirs = _timm(model)
    torch.save(_makers_dinov2(theirs), tmp_path / "dinov2_vits14_pretrain.pth")
    found = import_weights(tmp_path / "dinov2_vits14_pretrain.pth", out=tmp_path / "run")
    assert found.source == "dinov2"
    assert load_card(tmp_path / "run").encoder["model"] == model
    slices = _slices(14)
    difference = _relative(tmp_path / "run", slices, _tokens(theirs, _as_photographs(slices, IMAGENET)))
    record_property(found.source, difference)
    assert difference < 1e-4


def _makers_dinov3(network: nn.Module) -> dict[str, torch.Tensor]:
    state = {}
    for key, value in network.state_dict().items():
        key = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma").replace("reg_token", "storage_tokens")
        state[key] = value
    width = network.embed_dim
    state |= {f"blocks.{n}.attn.qkv.bias": torch.zeros(3 * width) for n in range(len(network.blocks))}
    state |= {f"blocks.{n}.attn.qkv.bias_mask": torch.ones(3 * width) for n in range(len(network.blocks))}
    return state | {"mask_token": torch.zeros(1, width), "rope_embed.periods": torch.ones(16)}


@pytest.mark.parametrize("source", ["dinov3", "meddinov3"])
def test_dinov3_and_meddinov3(tmp_path: Path, source: str, record_property) -> None:
    theirs = _timm("vit_small_patch16_dinov3")
    state = _makers_dinov3(theirs)
    if source == "meddinov3":
        kept = {f"backbone.{key}": value for key, value in state.items()} | {"dino_head.mlp.0.bias": torch.ones(3)}
        content = {"teacher": kept}
    else:
        content = state
    torch.save(content, tmp_path / "weights.pth")
    found = import_weights(tmp_path / "weights.pth", out=tmp_path / "run")
    assert found.source == source
    assert "own terms" in found.card.origin.forbids
    slices = _slices(16)
    colours = IMAGENET if source == "dinov3" else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    difference = _relative(tmp_path / "run", slices, _tokens(theirs, _as_photographs(slices, colours)))
    record_property(found.source, difference)
    assert difference < 1e-4
    state["blocks.0.attn.qkv.bias"] = torch.ones(3 * 384)
    torch.save(state, tmp_path / "biased.pth")
    with pytest.raises(DataError, match="biases other than 0"):
        import_weights(tmp_path / "biased.pth", out=tmp_path / "other")


def test_biomedclip_without_its_text_tower(tmp_path: Path, record_property) -> None:
    theirs = _timm("vit_small_patch16_224")
    state = {f"visual.trunk.{key}": value for key, value in theirs.state_dict().items()}
    state |= {
        "visual.head.proj.weight": torch.ones(2, 2),
        "text.proj.0.weight": torch.ones(2),
        "logit_scale": torch.ones(()),
    }
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    found = import_weights(tmp_path / "open_clip_pytorch_model.bin", out=tmp_path / "run")
    assert found.source == "biomedclip"
    slices = _slices(16)
    difference = _relative(tmp_path / "run", slices, _tokens(theirs, _as_photographs(slices, CLIP)))
    record_property(found.source, difference)
    assert difference < 1e-4


def test_radimagenet_under_its_numbers(tmp_path: Path, record_property) -> None:
    from torchvision.models import resnet50

    torch.manual_seed(3)
    theirs = jittered(resnet50(weights=None), seed=2)
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state = {}
    for key, value in theirs.state_dict().items():
        first, _, rest = key.partition(".")
        state[f"backbone.{numbers[first]}.{rest}" if first in numbers else key] = value
    torch.save(state, tmp_path / "ResNet50.pt")
    found = import_weights(tmp_path / "ResNet50.pt", out=tmp_path / "run")
    assert found.source == "radimagenet"
    slices = _slices(32)
    with torch.no_grad():
        x = slices[0].transpose(0, 1).expand(-1, 3, -1, -1)
        x = theirs.relu(theirs.bn1(theirs.conv1(x)))
        levels = [x]
        x = theirs.maxpool(x)
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            x = stage(x)
            levels.append(x)
        for ours, level in zip(load_encoder(tmp_path / "run")(slices), levels, strict=True):
            difference = float((ours[0].transpose(0, 1) - level).norm() / level.norm())
            record_property("radimagenet", difference)
            assert difference < 1e-4
