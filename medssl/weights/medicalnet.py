"""MedicalNet's 3D ResNets (Med3D), whose last stages dilate where torchvision's stride."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.batch_norms import FIXED, norm_rules
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.renaming import Rule

__all__ = ["medicalnet"]

_DEPTHS: dict[tuple[int, ...], int] = {
    (1, 1, 1, 1): 10,
    (2, 2, 2, 2): 18,
    (3, 4, 6, 3): 34,
    (3, 4, 23, 3): 101,
    (3, 8, 36, 3): 152,
}


def medicalnet(found: Found) -> Wanted | None:
    """Take a ResNet of MedicalNet: its depth and shortcuts are seen in the tensors; strides and dilations are not."""
    place, state, stripped = found.state("state_dict", "")
    first = state.get("conv1.weight")
    if first is None or first.dim() != 5 or "layer1.0.conv1.weight" not in state:
        return None
    blocks = tuple(_blocks(state, layer, found.shown) for layer in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in state
    last = "conv3" if bottleneck else "conv2"
    channels = (int(first.shape[0]), *(int(state[f"layer{n}.0.{last}.weight"].shape[0]) for n in range(1, 5)))
    padded = not any(key.startswith("layer2.0.downsample.") for key in state)
    depth = _DEPTHS.get(blocks, 0) + (16 if bottleneck and blocks == (3, 4, 6, 3) else 0)
    rules = [
        Rule(r"conv1\.weight", "encoder.stages.0.0.conv.weight", "stem"),
        *norm_rules(r"bn1", "encoder.stages.0.0.norm", "stem"),
        Rule(r"(?:conv_seg|fc)\..+", "", "heads", "a head that draws something else"),
    ]
    for layer in range(1, 5):
        for block in range(blocks[layer - 1]):
            there, here = rf"layer{layer}\.{block}", f"encoder.stages.{layer}.{block + (layer == 1)}"
            rules.append(Rule(rf"{there}\.conv(\d)\.weight", rf"{here}.conv\1.conv.weight", "blocks"))
            rules += norm_rules(rf"{there}\.bn(\d)", rf"{here}.conv\1.norm", "blocks")
            rules.append(Rule(rf"{there}\.downsample\.0\.weight", f"{here}.skip.conv.weight", "blocks"))
            rules += norm_rules(rf"{there}\.downsample\.1", f"{here}.skip.norm", "blocks")
    return Wanted(
        encoder={
            "name": "resnet",
            "in_channels": int(first.shape[1]),
            "channels": channels,
            "blocks": (1, *blocks),
            "bottleneck": bottleneck,
            "shortcut": "padded" if padded else "projected",
            "statistics": "fixed",
            "pool": "mean",
        },
        place=place,
        state=state,
        rules=rules,
        part_of=_part_of,
        inputs=(CardInput(name="image", normalise="zscore"),),
        window=(56, 112, 112),
        evidence=(
            f"a 3D ResNet{f'-{depth}' if depth else ''} of {list(blocks)} blocks, shortcut {'A' if padded else 'B'}: "
            "MedicalNet",
            found_in(place, stripped),
            "strides 2, 4, 8, 8, 8 with dilation 2 and 4: no tensor shows it, and torchvision's strides would load too",
        ),
        guesses=(
            FIXED,
            "each scan's z-score is of the voxels in its body box here; of those that are not zero there, and zeros "
            "became noise",
            "it saw whole scans of 56 x 448 x 448 voxels: windows of 56 x 112 x 112 here, and voxels as they are",
        ),
    )


def _blocks(state: Mapping[str, Tensor], layer: int, shown: str) -> int:
    count = next(n for n in range(1000) if f"layer{layer}.{n}.conv1.weight" not in state)
    if not count:
        raise DataError(f"{shown}: is not a complete ResNet: layer{layer}.0.conv1.weight is missing.")
    return count


def _part_of(name: str) -> str:
    return "stem" if name.startswith("encoder.stages.0.") else "blocks"
