"""STU-Net (S, B, L, H), as nnU-Net v1 and v2 saved it."""

from __future__ import annotations

from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.renaming import Rule

__all__ = ["stunet"]

_NAMES = {16: "S", 32: "B", 64: "L", 96: "H"}
_REMOVED = "the norm behind it removes a bias"


def stunet(found: Found) -> Wanted | None:
    """Take STU-Net's encoder: stages of blocks whose shortcut is a strided convolution."""
    place, state, stripped = found.state("state_dict", "network_weights", "")
    name = "conv_blocks_context.{}.{}.conv1.weight"
    if name.format(0, 0) not in state or "conv_blocks_context.0.0.conv3.weight" not in state:
        return None
    channels: list[int] = []
    blocks: list[int] = []
    kernels: list[tuple[int, int, int]] = []
    while (key := name.format(len(channels), 0)) in state:
        stage, kernel = len(channels), state[key]
        if kernel.dim() != 5:
            raise DataError(
                f"{found.shown}: '{key}' has the shape {tuple(kernel.shape)}. Networks of three axes are taken."
            )
        channels.append(int(kernel.shape[0]))
        kernels.append((kernel.shape[2], kernel.shape[3], kernel.shape[4]))
        blocks.append(next(n for n in range(1000) if name.format(stage, n) not in state))
    at, to = r"conv_blocks_context\.(\d+)\.(\d+)\.", r"encoder.stages.\1.\2."
    rules = [
        Rule(rf"{at}conv([12])\.weight", rf"{to}conv\3.conv.weight", "blocks"),
        Rule(rf"{at}conv[12]\.bias", "", "blocks", _REMOVED),
        Rule(rf"{at}norm([12])\.(weight|bias)", rf"{to}conv\3.norm.\4", "blocks"),
        Rule(rf"{at}conv3\.(weight|bias)", rf"{to}skip.\3", "blocks"),
        Rule(
            r"(?:upsample_layers|conv_blocks_localization)\..+",
            "",
            "decoder",
            "its decoder is of residual blocks, and ours is not",
        ),
        Rule(r"seg_outputs\..+", "", "heads", "a head that draws something else"),
    ]
    first = state[name.format(0, 0)]
    return Wanted(
        encoder={
            "name": "stunet",
            "in_channels": int(first.shape[1]),
            "channels": tuple(channels),
            "blocks": tuple(blocks),
            "kernels": tuple(kernels),
        },
        place=place,
        state=state,
        rules=rules,
        part_of=_part_of,
        inputs=_inputs(int(first.shape[1])),
        spacing_mm=(1.5, 1.5, 1.5),
        window=(128, 128, 128),
        evidence=(
            f"'conv_blocks_context' with shortcuts 'conv3': STU-Net {_NAMES.get(channels[0], 'of another size')}, "
            f"channels {channels}, blocks {blocks}",
            found_in(place, stripped),
        ),
        guesses=(
            "each stage but the first halves all axes, 1.5 mm: as TotalSegmentator's plans have it; no tensor shows it",
            "z-scores of each scan: the clip, mean and deviation that it was trained with are in a pickle beside it "
            "(.pkl), which is not executed",
            "scans lay as their files had them there, and are turned to RAS here",
        ),
    )


def _inputs(count: int) -> tuple[CardInput, ...]:
    names = ["ct"] if count == 1 else [f"channel {number}" for number in range(count)]
    return tuple(CardInput(name=name, modality="CT", normalise="zscore") for name in names)


def _part_of(name: str) -> str:
    return "blocks"
