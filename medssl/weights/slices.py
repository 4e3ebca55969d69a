"""Networks of slices that timm builds: DINOv2, DINOv3, MedDINOv3, BiomedCLIP and RadImageNet.

Photographs have three channels. A slice has one, and these networks see it three times, normalised by a mean and a
deviation a channel. That is one channel with the kernels summed over the deviations, and a bias that takes the means:
exact where nothing is padded, as in a transformer's patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.positions import behind_first, placed
from medssl.weights.renaming import Rule

__all__ = ["biomedclip", "dinov2", "dinov3", "meddinov3", "radimagenet"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_SIZES = {384: "small", 768: "base", 1024: "large", 1536: "giant"}
_TOPS = ("teacher", "state_dict", "model", "")
_FOLDED = "three equal channels with their means and deviations, as one"
_WINDOW = (16, 224, 224)
_MEAN_OF_PATCHES = "an embedding is the mean of the patches' tokens; the class token takes part in the blocks alone"


def dinov2(found: Found) -> Wanted | None:
    """Take DINOv2 under its makers' names."""
    place, state, stripped = found.state(*_TOPS)
    if "pos_embed" not in state or "blocks.0.ls1.gamma" not in state or "storage_tokens" in state:
        return None
    width, patch = _patches(state, found)
    registers = "register_tokens" in state
    size = _size(width, found)
    rules = [
        Rule(r"mask_token", "", "beside", "only its pretraining needs it"),
        *_folded("", _IMAGENET),
        Rule(r"(blocks\.\d+)\.mlp\.w12\.(weight|bias)", r"encoder.network.\1.mlp.fc1.\2", "blocks"),
        Rule(r"(blocks\.\d+)\.mlp\.w3\.(weight|bias)", r"encoder.network.\1.mlp.fc2.\2", "blocks"),
        Rule(r"(?:blocks|norm)\..+", r"encoder.network.\g<0>", "blocks"),
    ]
    if registers:
        why = "the class token's place goes into it"
        rules += [
            Rule(r"register_tokens", "encoder.network.reg_token", "stem"),
            Rule(r"cls_token", "encoder.network.cls_token", "stem", why, placed, "folded", takes=("pos_embed",)),
            Rule(r"pos_embed", "encoder.network.pos_embed", "stem", why, behind_first, "folded"),
        ]
    rules.append(Rule(r"cls_token|pos_embed", r"encoder.network.\g<0>", "stem"))
    model = f"vit_{size}_patch{patch}{'_reg4' if registers else ''}_dinov2"
    return _slices(found, place, state, stripped, model, rules, evidence=f"LayerScale and positions: {model}")


def dinov3(found: Found) -> Wanted | None:
    """Take DINOv3 under its makers' names."""
    place, state, stripped = found.state(*_TOPS)
    if "storage_tokens" not in state or "blocks.0.ls1.gamma" not in state:
        return None
    return _rotary(found, place, state, stripped, "", _IMAGENET, None)


def meddinov3(found: Found) -> Wanted | None:
    """Take MedDINOv3: DINOv3 as ``backbone`` of the teacher."""
    place, state, stripped = found.state("teacher", "")
    if "backbone.storage_tokens" not in state:
        return None
    return _rotary(found, place, state, stripped, "backbone.", _PLAIN, (-1000.0, 1000.0, 65.108, 178.017))


def biomedclip(found: Found) -> Wanted | None:
    """Take BiomedCLIP's image tower, a plain ViT-B/16."""
    place, state, stripped = found.state("state_dict", "")
    at = "visual.trunk."
    if f"{at}pos_embed" not in state or f"{at}patch_embed.proj.weight" not in state:
        return None
    rules = [
        Rule(r"(?:visual\.head|text)\..+|logit_scale|logit_bias", "", "heads", "of the text tower or of both"),
        *_folded(at, _CLIP),
        Rule(r"visual\.trunk\.(cls_token|pos_embed)", r"encoder.network.\1", "stem"),
        Rule(r"visual\.trunk\.((?:blocks|norm)\..+)", r"encoder.network.\1", "blocks"),
    ]
    width, patch = _patches(state, found, at)
    model = f"vit_{_size(width, found)}_patch{patch}_224"
    return _slices(found, place, state, stripped, model, rules, evidence=f"'visual.trunk' beside 'text': {model}")


def radimagenet(found: Found) -> Wanted | None:
    """Take RadImageNet's ResNet-50, whose parts are numbered under ``backbone``."""
    place, state, stripped = found.state("state_dict", "model", "")
    if "backbone.0.weight" not in state or "backbone.4.0.conv1.weight" not in state:
        return None
    names = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    rules = [
        Rule(
            r"backbone\.0\.weight",
            "encoder.network.conv1.weight",
            "stem",
            "three equal channels as one",
            _summed,
            "folded",
        ),
        *(
            Rule(rf"backbone\.{number}\.(.+)", rf"encoder.network.{name}.\1", "stem" if name == "bn1" else "blocks")
            for number, name in names.items()
        ),
        Rule(r"(fc|head|classifier)\..+", "", "heads", "its classes are not yours"),
    ]
    return _slices(
        found,
        place,
        state,
        stripped,
        "resnet50",
        rules,
        tokens=False,
        evidence="'backbone' with numbered parts and bottlenecks: RadImageNet's ResNet-50",
        guesses=("slices from 0 to 1, three times: its makers do not state how they normalise",),
    )


def _rotary(
    found: Found,
    place: str,
    state: Mapping[str, Tensor],
    stripped: tuple[str, ...],
    at: str,
    colours: tuple[Sequence[float], Sequence[float]],
    numbers: tuple[float, float, float, float] | None,
) -> Wanted:
    width, patch = _patches(state, found, at)
    biases = [tensor for key, tensor in state.items() if key.endswith(".attn.qkv.bias")]
    if any(key.endswith(".mlp.w1.weight") for key in state):
        raise DataError(f"{found.shown}: its perceptrons are gated ('plus'). Nearest: the S, B or L without plus.")
    biased = any(bool(bias.any()) for bias in biases)
    if biased:
        raise DataError(
            f"{found.shown}: its queries or values have biases other than 0, which those of the published S, B and L "
            "have not."
        )
    before = at.replace(".", r"\.")
    rules = [
        Rule(r"(?:dino_head|ibot_head|head)\..+", "", "heads", "a head of its method"),
        Rule(
            rf"{before}(?:mask_token|rope_embed\..+|local_cls_norm\..+|.+\.bias_mask)", "", "beside", "not learnt here"
        ),
        Rule(rf"{before}.+\.attn\.qkv\.bias", "", "blocks", "all of it is 0"),
        *_folded(at, colours),
        Rule(rf"{before}storage_tokens", "encoder.network.reg_token", "stem"),
        Rule(rf"{before}cls_token", "encoder.network.cls_token", "stem"),
        Rule(rf"{before}(blocks\.\d+)\.ls([12])\.gamma", r"encoder.network.\1.gamma_\2", "blocks"),
        Rule(rf"{before}((?:blocks|norm)\..+)", r"encoder.network.\1", "blocks"),
    ]
    model = f"vit_{_size(width, found)}_patch{patch}_dinov3"
    return _slices(found, place, state, stripped, model, rules, numbers=numbers, evidence=f"storage tokens: {model}")


def _slices(
    found: Found,
    place: str,
    state: Mapping[str, Tensor],
    stripped: tuple[str, ...],
    model: str,
    rules: list[Rule],
    *,
    evidence: str,
    tokens: bool = True,
    numbers: tuple[float, float, float, float] | None = None,
    guesses: tuple[str, ...] = (),
) -> Wanted:
    known = (
        CardInput(name="image")
        if numbers is None
        else CardInput(name="ct", modality="CT", normalise="dataset", numbers=numbers)
    )
    return Wanted(
        encoder={"name": "timm", "model": model, "in_channels": 1, "tokens": tokens},
        place=place,
        state=state,
        rules=rules,
        part_of=_part_of,
        inputs=(known,),
        window=_WINDOW,
        evidence=(
            evidence,
            found_in(place, stripped),
        ),
        guesses=(*guesses, *((_MEAN_OF_PATCHES,) if tokens else ())),
    )


def _folded(at: str, colours: tuple[Sequence[float], Sequence[float]]) -> list[Rule]:
    """Return the rules of the patches' projection: three channels as one."""
    means, deviations = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in colours)

    def kernel(weight: Tensor) -> Tensor:
        return (weight.double() / deviations).sum(dim=1, keepdim=True).float()

    def bias(own: Tensor, weight: Tensor) -> Tensor:
        return (own.double() - (weight.double() * means / deviations).sum(dim=(1, 2, 3))).float()

    name, before = f"{at}patch_embed.proj", at.replace(".", r"\.")
    return [
        Rule(
            rf"{before}patch_embed\.proj\.weight",
            "encoder.network.patch_embed.proj.weight",
            "stem",
            _FOLDED,
            kernel,
            "folded",
        ),
        Rule(
            rf"{before}patch_embed\.proj\.bias",
            "encoder.network.patch_embed.proj.bias",
            "stem",
            _FOLDED,
            bias,
            "folded",
            takes=(f"{name}.weight",),
        ),
    ]


def _patches(state: Mapping[str, Tensor], found: Found, at: str = "") -> tuple[int, int]:
    kernel = state.get(f"{at}patch_embed.proj.weight")
    if kernel is None or kernel.dim() != 4 or kernel.shape[1] != 3 or kernel.shape[2] != kernel.shape[3]:
        raise DataError(f"{found.shown}: its patches are not square and of three channels.")
    return int(kernel.shape[0]), int(kernel.shape[2])


def _size(width: int, found: Found) -> str:
    if width not in _SIZES:
        listed = ", ".join(f"{size} ({number})" for number, size in _SIZES.items())
        raise DataError(f"{found.shown}: its tokens are {width} long, and known are {listed}.")
    return _SIZES[width]


def _summed(weight: Tensor) -> Tensor:
    return weight.sum(dim=1, keepdim=True)


def _part_of(name: str) -> str:
    inner = name.removeprefix("encoder.network.")
    stem = ("patch_embed.", "cls_token", "pos_embed", "reg_token", "conv1.", "bn1.")
    return "stem" if inner.startswith(stem) else "blocks"
