"""3DINO's ViT-L: a class token that all look at, layer scales that are folded, places on (x, y, z)."""

from __future__ import annotations

import re
from dataclasses import replace

from torch import Tensor

from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.axes import turning_kernels
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.positions import behind_first, cube_side, placed, turning_rows
from medssl.weights.renaming import Rule

__all__ = ["three_dino"]

_XYZ = (2, 1, 0)
_TURNED = "turned to (z, y, x)"
_SCALED = "its layer scale goes into it"
_HEAD_WIDTH = 64  # of every size of DINOv2
_FOLDED = "-1 to 1 as 0 to 1"


def three_dino(found: Found) -> Wanted | None:
    """Take the teacher of 3DINO: ``backbone`` with blocks in chunks, or not, beside heads."""
    place, state, stripped = found.state("teacher", "model", "state_dict", "")
    at = next((one for one in ("backbone.", "") if f"{one}cls_token" in state), None)
    if at is None or f"{at}pos_embed" not in state or f"{at}patch_embed.proj.weight" not in state:
        return None
    projection = state[f"{at}patch_embed.proj.weight"]
    if projection.dim() != 5:
        return None
    before = re.escape(at)
    block = rf"{before}blocks\.((?:\d+\.)?)(\d+)\."
    depth = len({match[2] for key in state if (match := re.match(rf"{block}norm1\.weight", key))})
    scales = any(key.endswith(".ls1.gamma") for key in state)
    if not depth or any(key.endswith(".mlp.w12.weight") for key in state):
        raise DataError(f"{found.shown}: its blocks are not those of 3DINO's ViT (attention, two linear layers).")
    width, side = int(projection.shape[0]), cube_side(int(state[f"{at}pos_embed"].shape[1]) - 1, found.shown)
    to, there = r"encoder.blocks.\2.", rf"{at}blocks.\1\2."
    rows = turning_rows((side,) * 3, _XYZ)
    rules = [
        Rule(r"(?:dino_head|ibot_head|head)\..+", "", "heads", "a head of its method"),
        Rule(rf"{before}mask_token", "", "beside", "only its pretraining needs it"),
        Rule(
            rf"{before}patch_embed\.proj\.weight",
            "encoder.patch_embed.proj.weight",
            "stem",
            f"kernels {_TURNED}; {_FOLDED}",
            lambda kernel: turning_kernels(_XYZ)(2 * kernel),
        ),
        Rule(
            rf"{before}patch_embed\.proj\.bias",
            "encoder.patch_embed.proj.bias",
            "stem",
            _FOLDED,
            _of_unit,
            "folded",
            takes=(f"{at}patch_embed.proj.weight",),
        ),
        Rule(
            rf"{before}cls_token",
            "encoder.cls_token",
            "stem",
            "its place goes into it",
            placed,
            "folded",
            takes=(f"{at}pos_embed",),
        ),
        Rule(
            rf"{before}pos_embed",
            "encoder.pos_embed",
            "stem",
            f"rows {_TURNED}; the first goes into the class token",
            lambda table: rows(behind_first(table)),
        ),
        Rule(rf"{before}(norm\.(?:weight|bias))", r"encoder.\1", "blocks"),
        Rule(rf"{block}(norm[12]\.(?:weight|bias)|attn\.qkv\..+|mlp\.fc1\..+)", rf"{to}\3", "blocks"),
    ]
    for name, gamma in (("attn.proj", "ls1"), ("mlp.fc2", "ls2")):
        for part in ("weight", "bias"):
            rule = Rule(rf"{block}{re.escape(name)}\.{part}", f"{to}{name}.{part}", "blocks")
            takes = (f"{there}{gamma}.gamma",)
            rules.append(replace(rule, why=_SCALED, change=_scaled, fate="folded", takes=takes) if scales else rule)
    if scales:
        rules.append(Rule(rf"{block}ls[12]\.gamma", "", "blocks", "goes into the layer before it", fate="folded"))
    z, y, x = (int(projection.shape[axis]) for axis in (4, 3, 2))
    first = state.get(f"{at}blocks.0.0.mlp.fc1.weight", state.get(f"{at}blocks.0.mlp.fc1.weight"))
    if first is None:
        raise DataError(f"{found.shown}: is not a complete transformer: blocks.0 has no mlp.fc1.")
    return Wanted(
        encoder={
            "name": "vit",
            "in_channels": int(projection.shape[1]),
            "size": "large",
            "width": width,
            "depth": depth,
            "heads": max(1, width // _HEAD_WIDTH),
            "mlp_ratio": int(first.shape[0]) / width,
            "patch": (z, y, x),
            "positions": "learned",
            "grid": (side, side, side),
            "interpolation": "offset",
            "class_token": True,
            "pool": "class",
        },
        place=place,
        state=state,
        rules=rules,
        part_of=_part_of,
        inputs=(CardInput(name="image"),),
        window=(side * z, side * y, side * x),
        evidence=(
            f"a class token, {side} x {side} x {side} places and {depth} blocks over volumes: 3DINO",
            found_in(place, stripped),
            "it saw arrays (x, y, z): no tensor shows it; kernels and places are turned",
        ),
        guesses=(
            "heads of 64 numbers: no tensor shows it",
            "0 and 1 of the store (MR: percentiles in the body box; CT: its window) are -1 and 1 there, folded into "
            "the patches; its makers take percentiles 0.05 and 99.95 of the whole scan, of CT too",
            "an image of several channels goes through channel by channel there, vectors joined; here it has one",
        ),
    )


def _of_unit(bias: Tensor, kernel: Tensor) -> Tensor:
    """Return the bias for input from 0 to 1, of one for input from -1 to 1; nothing is padded, so it is exact."""
    return (bias.double() - kernel.double().flatten(1).sum(dim=1)).float()


def _scaled(values: Tensor, gamma: Tensor) -> Tensor:
    """Return the rows of a matrix, or a bias, each times its scale."""
    return values * gamma.view(-1, *(1,) * (values.dim() - 1))


def _part_of(name: str) -> str:
    stem = ("encoder.patch_embed.", "encoder.cls_token", "encoder.pos_embed")
    return "stem" if name.startswith(stem) else "blocks"
