"""Models Genesis's 3D U-Net, and SuPreM's, which is the same network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from medssl.engine.card import CardInput
from medssl.weights.axes import turning_kernels
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.renaming import Rule

__all__ = ["models_genesis", "suprem_unet"]

_LEVELS = (64, 128, 256, 512)
_TURNED = "kernels turned to (z, y, x)"
_REMOVED = "the norm behind it removes a bias"
_UNUSED = "it takes the statistics of the batch at hand, in use too"


def models_genesis(found: Found) -> Wanted | None:
    """Take ``Genesis_Chest_CT.pt``: the encoder of a whole U-Net at the top."""
    place, state, stripped = found.state("state_dict", "")
    if "down_tr64.ops.0.conv1.weight" not in state or place == "net":
        return None
    return _unet3d(
        place,
        state,
        numbers=(-1000.0, 1000.0, -1000.0, 2000.0),
        window=(32, 64, 64),
        evidence=("'down_tr64' to 'down_tr512': Models Genesis", found_in(place, stripped)),
    )


def suprem_unet(found: Found) -> Wanted | None:
    """Take SuPreM's U-Net: the same network as ``backbone``, under ``net``, with a branch of texts."""
    place, state, stripped = found.state("net")
    at = next((one for one in ("backbone.", "") if f"{one}down_tr64.ops.0.conv1.weight" in state), None)
    if at is None:
        return None
    return _unet3d(
        place,
        state,
        at=at,
        numbers=(-175.0, 250.0, -175.0, 425.0),
        spacing=(1.5, 1.5, 1.5),
        window=(96, 96, 96),
        evidence=("'down_tr64' to 'down_tr512' under 'net': SuPreM's U-Net", found_in(place, stripped)),
    )


def _unet3d(
    place: str,
    state: Mapping[str, Tensor],
    *,
    at: str = "",
    numbers: tuple[float, float, float, float],
    spacing: tuple[float, float, float] | None = None,
    window: tuple[int, int, int],
    evidence: tuple[str, ...],
) -> Wanted:
    before, turn = re.escape(at), turning_kernels((2, 1, 0))
    kernel = partial(Rule, part="blocks", why=_TURNED, change=turn)
    rules: list[Rule] = []
    for stage, level in enumerate(_LEVELS):
        for number in (0, 1):
            there, here = rf"{before}down_tr{level}\.ops\.{number}", f"encoder.stages.{stage}.{number + (stage > 0)}"
            rules += [
                kernel(rf"{there}\.conv1\.weight", f"{here}.conv.weight"),
                Rule(rf"{there}\.conv1\.bias", "", "blocks", _REMOVED),
                Rule(rf"{there}\.bn1\.(weight|bias)", rf"{here}.norm.\1", "blocks"),
                Rule(rf"{there}\.bn1\.(?:running_mean|running_var|num_batches_tracked)", "", "blocks", _UNUSED),
            ]
    first = state[f"{at}down_tr64.ops.0.conv1.weight"]
    widths = tuple(int(state[f"{at}down_tr{level}.ops.1.conv1.weight"].shape[0]) for level in _LEVELS)
    return Wanted(
        encoder={"name": "unet3d", "in_channels": int(first.shape[1]), "channels": widths, "pool": "mean"},
        place=place,
        state=state,
        rules=[
            *rules,
            Rule(rf"{before}up_tr\d+\..+", "", "decoder", "its decoder is wider than ours"),
            Rule(rf"{before}out_tr\..+", "", "heads", "a head that draws something else"),
            Rule(r"(?:organ_embedding|controller|GAP|precls_conv|text_to_vision)(?:\..+)?", "", "heads", "of texts"),
        ],
        part_of=lambda _: "blocks",
        inputs=(CardInput(name="ct", modality="CT", normalise="dataset", numbers=numbers),),
        spacing_mm=spacing,
        window=window,
        evidence=(*evidence, "axes (x, y, z): no tensor shows it; kernels are turned"),
        guesses=(
            "norms take each scan by itself (instance norms): its batch norms take the batch at hand, in use too, "
            "which for one scan is the same, and for several is not",
        ),
    )
