"""SegResNets: CT-FM's encoder, by itself or in its segmenter, and SuPreM's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.axes import flipping, turning_kernels
from medssl.weights.batch_norms import FIXED, norm_rules
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.renaming import Rule

__all__ = ["ct_fm", "suprem_segresnet"]

_DECODER = "its decoder adds skips, and ours joins them"
_FLIPPED = "kernels flipped along y and x: it saw arrays (S, P, L)"
_TURNED = "kernels turned to (z, y, x)"
_FIRST = ("", "backbone.", "encoder.", "model.", "model.encoder.", "backbone.encoder.")


def ct_fm(found: Found) -> Wanted | None:
    """Take CT-FM: MONAI's SegResEncoder with batch norms, by itself, as a backbone, or in a SegResNetDS."""
    place, state, stripped = found.state("state_dict", "model", "")
    at = next((one for one in _FIRST if f"{one}conv_init.weight" in state), None)
    if at is None or f"{at}layers.0.blocks.0.norm1.running_mean" not in state:
        return None
    blocks = _counted(state, at + "layers.{}.blocks.{}.conv1.weight", found.shown)
    flip, before = flipping((1, 2)), re.escape(at)
    rules = [Rule(rf"{before}conv_init\.weight", "encoder.stem.weight", "stem", _FLIPPED, flip)]
    for stage, count in enumerate(blocks):
        last = stage + 1  # MONAI ends a level with the strided convolution that begins the next stage here
        rules.append(
            Rule(
                rf"{before}layers\.{stage}\.downsample\.weight",
                f"encoder.stages.{last}.0.weight",
                "blocks",
                _FLIPPED,
                flip,
            )
        )
        for block in range(count):
            there, here = rf"{before}layers\.{stage}\.blocks\.{block}", f"encoder.stages.{stage}.{block + (stage > 0)}"
            rules.append(Rule(rf"{there}\.(conv[12])\.weight", rf"{here}.\1.weight", "blocks", _FLIPPED, flip))
            rules += norm_rules(rf"{there}\.(norm[12])", rf"{here}.\1", "blocks")
    return Wanted(
        encoder={
            **_sizes(state[f"{at}conv_init.weight"], blocks),
            "norm": "batch",
            "statistics": "fixed",
            "beyond": ("y", "x"),
        },
        place=place,
        state=state,
        rules=[
            *rules,
            Rule(r"(?:model\.|backbone\.)?up_layers\..+", "", "decoder", _DECODER),
            Rule(r"(?:\w*head\w*|criterion)(?:\..+)?", "", "heads", "a head of its method"),
        ],
        part_of=_part_of,
        inputs=(CardInput(name="ct", modality="CT", normalise="dataset", numbers=(-1024.0, 2048.0, -1024.0, 3072.0)),),
        spacing_mm=(3.0, 1.0, 1.0),
        window=(32, 128, 128),
        evidence=(
            f"a SegResEncoder with batch norms, blocks {list(blocks)}: CT-FM",
            found_in(place, stripped),
            "it saw arrays (S, P, L): no tensor shows it; kernels are flipped, which is exact (encoder.beyond=[y,x])",
        ),
        guesses=(FIXED,),
    )


def suprem_segresnet(found: Found) -> Wanted | None:
    """Take SuPreM's SegResNet: under ``net``, group norms, trained on (x, y, z)."""
    place, state, stripped = found.state("net", "state_dict", "")
    at = next((one for one in ("", "backbone.") if f"{one}convInit.conv.weight" in state), None)
    if at is None or f"{at}down_layers.0.1.conv1.conv.weight" not in state:
        return None
    if f"{at}down_layers.0.1.norm1.running_mean" in state:
        raise DataError(
            f"{found.shown}: is a SegResNet with batch norms, and SuPreM's has group norms. Nearest: suprem-swin."
        )
    blocks = _counted(state, at + "down_layers.{}.{}.conv1.conv.weight", found.shown, first=1)
    turn, before = turning_kernels((2, 1, 0)), re.escape(at)
    conv = rf"{before}down_layers\.(\d+)\.(\d+)\."
    rules = [
        Rule(rf"{before}convInit\.conv\.weight", "encoder.stem.weight", "stem", _TURNED, turn),
        Rule(rf"{conv}conv\.weight", r"encoder.stages.\1.\2.weight", "blocks", _TURNED, turn),
    ]
    for block in range(1, blocks[0] + 1):  # its first level begins with an identity, ours with a block
        there, here = rf"{before}down_layers\.0\.{block}\.", f"encoder.stages.0.{block - 1}."
        rules.append(Rule(rf"{there}(conv[12])\.conv\.weight", rf"{here}\1.weight", "blocks", _TURNED, turn))
        rules.append(Rule(rf"{there}(norm[12]\.(?:weight|bias))", rf"{here}\1", "blocks"))
    return Wanted(
        encoder={**_sizes(state[f"{at}convInit.conv.weight"], blocks), "norm": "group", "groups": 8},
        place=place,
        state=state,
        rules=[
            *rules,
            Rule(rf"{conv}(conv[12])\.conv\.weight", r"encoder.stages.\1.\2.\3.weight", "blocks", _TURNED, turn),
            Rule(rf"{conv}(norm[12]\.(?:weight|bias))", r"encoder.stages.\1.\2.\3", "blocks"),
            Rule(rf"{before}(?:up_layers|up_samples|conv_final)\..+", "", "decoder", _DECODER),
            Rule(r"(?:organ_embedding|controller|GAP|precls_conv|text_to_vision)(?:\..+)?", "", "heads", "of texts"),
        ],
        part_of=_part_of,
        inputs=(CardInput(name="ct", modality="CT", normalise="dataset", numbers=(-175.0, 250.0, -175.0, 425.0)),),
        spacing_mm=(1.5, 1.5, 1.5),
        window=(96, 96, 96),
        evidence=(
            f"a SegResNet without batch norms, blocks {list(blocks)}: SuPreM",
            found_in(place, stripped),
            "groups of 8 and axes (x, y, z): no tensor shows either; kernels are turned",
        ),
        sure=place == "net",
    )


def _sizes(first: Tensor, blocks: tuple[int, ...]) -> dict[str, object]:
    width = int(first.shape[0])
    return {
        "name": "segres",
        "in_channels": int(first.shape[1]),
        "channels": tuple(width * 2**stage for stage in range(len(blocks))),
        "blocks": blocks,
        "pool": "mean",
    }


def _counted(state: Mapping[str, Tensor], name: str, shown: str, *, first: int = 0) -> tuple[int, ...]:
    """Return how many blocks each level has; ``name`` takes level and block."""
    counts: list[int] = []
    while name.format(len(counts), first) in state:
        counts.append(next(n for n in range(1000) if name.format(len(counts), first + n) not in state))
    if len(counts) < 2:
        raise DataError(f"{shown}: is not a complete SegResNet: {name.format(1, first)} is missing.")
    return tuple(counts)


def _part_of(name: str) -> str:
    return "stem" if name.startswith("encoder.stem.") else "blocks"
