"""nnU-Net's two encoders and their decoder, as files of weights have them: names, shapes, and turned axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from medssl.encoders.settings.input import Pool
from medssl.errors import DataError
from medssl.weights.axes import turning_kernels
from medssl.weights.renaming import Rule

__all__ = ["Staged", "from_shapes", "part_of", "rules"]

Triple = tuple[int, int, int]
_REMOVED = "the norm behind it removes a bias"
_TWIN = "the second name of a tensor"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """The sizes of a network of stages, axes as the file has them.

    Attributes:
        name: "residual" or "unet".
        channels: Of each stage.
        blocks: Blocks or convolutions of each stage.
        kernels: Of each stage.
        strides: Of each stage against the one before.
        in_channels: Of the input.
        decoder_convs: Convolutions of each stage of the decoder; 0 without one.
        heads: Channels of its head; 0 without one.
        pool: How its features become one vector: ``prenorm`` where its makers take none, as of networks made here.
    """

    name: str
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    kernels: tuple[Triple, ...]
    strides: tuple[Triple, ...]
    in_channels: int
    decoder_convs: int = 0
    heads: int = 0
    pool: Pool = "prenorm"

    def turned(self, axes: Sequence[int]) -> Staged:
        """Return the sizes with the axes of this project: axis i of the file is axis ``axes[i]`` here."""
        return replace(self, kernels=_turned(self.kernels, axes), strides=_turned(self.strides, axes))

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the encoder."""
        return {
            "name": self.name,
            "in_channels": self.in_channels,
            "channels": self.channels,
            "blocks": self.blocks,
            "kernels": self.kernels,
            "strides": self.strides,
            "pool": self.pool,
        }


def from_shapes(state: Mapping[str, Tensor], *, shown: str) -> Staged:
    """Return the sizes that the tensors of a network tell, under names that begin with "encoder." or "decoder.".

    Strides of encoders are not to be seen in their tensors; those of a decoder's transposed convolutions are, else
    each stage but the first is taken to halve all axes.

    Raises:
        DataError: They are those of no such network.
    """
    residual = any(key.startswith("encoder.stages.0.blocks.") for key in state)
    name = "residual" if residual else "unet"
    first = "encoder.stages.{}.blocks.{}.conv1.conv.weight" if residual else "encoder.stages.{}.0.convs.{}.conv.weight"
    channels: list[int] = []
    blocks: list[int] = []
    kernels: list[Triple] = []
    while (key := first.format(len(channels), 0)) in state:
        shape = state[key].shape
        if len(shape) != 5:
            raise DataError(
                f"{shown}: '{key}' has the shape {tuple(shape)}. Networks of three axes are taken: 3d_fullres."
            )
        stage = len(channels)
        channels.append(shape[0])
        kernels.append((shape[2], shape[3], shape[4]))
        blocks.append(next(n for n in range(1000) if first.format(stage, n) not in state))
    if len(channels) < 2:
        inner = next((key for key in state if "encoder.stages.0." in key), "")
        before = inner.partition("encoder.stages.0.")[0]
        hint = f" Some names begin with '{before}' before 'encoder.': save the state dict without it." if before else ""
        raise DataError(
            f"{shown}: no stages of nnU-Net's encoders are in it, or their first convolutions are missing.{hint} "
            "Take the complete file, unchanged."
        )
    seen = state.get("encoder.stem.convs.0.conv.weight") if residual else state[first.format(0, 0)]
    if seen is None:
        raise DataError(f"{shown}: its residual encoder has no stem.")
    strides: list[Triple] = [(1, 1, 1)] + [(2, 2, 2)] * (len(channels) - 1)
    ups = [state.get(f"decoder.transpconvs.{n}.weight") for n in range(len(channels) - 1)]
    if all(up is not None for up in ups):
        strides[1:] = [(up.shape[2], up.shape[3], up.shape[4]) for up in ups[::-1] if up is not None]
    convs = {
        next(m for m in range(1000) if f"decoder.stages.{n}.convs.{m}.conv.weight" not in state)
        for n in range(len(channels) - 1)
    }
    if len(convs) > 1:
        raise DataError(f"{shown}: stages of its decoder have different numbers of convolutions, {sorted(convs)}.")
    last = f"decoder.seg_layers.{len(channels) - 2}"
    head = state.get(f"{last}.weight")
    if head is None and any(key.startswith("decoder.seg_layers.") for key in state):
        raise DataError(f"{shown}: '{last}.weight' is missing, the head of its decoder, and others are there.")
    return Staged(
        name=name,
        channels=tuple(channels),
        blocks=tuple(blocks),
        kernels=tuple(kernels),
        strides=tuple(strides),
        in_channels=seen.shape[1],
        decoder_convs=convs.pop(),
        heads=0 if head is None else head.shape[0],
    )


def rules(
    axes: Sequence[int] = (0, 1, 2), *, decoder: bool, heads: bool, beside: Sequence[Rule] = ()
) -> tuple[Rule, ...]:
    """Return what becomes of the tensors of such a network.

    Args:
        axes: Axis i of the file is axis ``axes[i]`` here.
        decoder: Whether the decoder is taken.
        heads: Whether its heads are.
        beside: Rules for what else such a file holds, tried first.
    """
    turn = None if tuple(axes) == (0, 1, 2) else turning_kernels(axes)
    why = "" if turn is None else "kernels turned to (z, y, x)"
    to_decoder = r"\g<0>" if decoder else ""
    left = "" if decoder else "the decoder is not taken"
    to_heads = r"\g<0>" if decoder and heads else ""
    no_head = "" if decoder and heads else "a head that draws something else"
    return (
        *beside,
        Rule(r"decoder\.encoder\.(.+)", "", "beside", _TWIN, twin=r"encoder.\1"),
        Rule(r"(.+)\.all_modules\.0\.(weight|bias)", "", "beside", _TWIN, twin=r"\1.conv.\2"),
        Rule(r"(.+)\.all_modules\.1\.(weight|bias)", "", "beside", _TWIN, twin=r"\1.norm.\2"),
        Rule(r"encoder\..+\.conv\.bias", "", "blocks", _REMOVED),
        Rule(r"encoder\.stem\.convs\.0\.conv\.weight", "encoder.stem.conv.weight", "stem", why, turn),
        Rule(r"encoder\.stem\.convs\.0\.norm\.(weight|bias)", r"encoder.stem.norm.\1", "stem"),
        Rule(
            r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.(conv1|conv2|skip\.\d+)\.conv\.weight",
            r"encoder.stages.\1.\2.\3.conv.weight",
            "blocks",
            why,
            turn,
        ),
        Rule(
            r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.(conv1|conv2|skip\.\d+)\.norm\.(weight|bias)",
            r"encoder.stages.\1.\2.\3.norm.\4",
            "blocks",
        ),
        Rule(
            r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.conv\.weight",
            r"encoder.stages.\1.\2.conv.weight",
            "blocks",
            why,
            turn,
        ),
        Rule(
            r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.norm\.(weight|bias)", r"encoder.stages.\1.\2.norm.\3", "blocks"
        ),
        Rule(r"decoder\.stages\.\d+\.convs\.\d+\.conv\.bias", "", "decoder", _REMOVED),
        Rule(
            r"decoder\.(transpconvs\.\d+|stages\.\d+\.convs\.\d+\.conv)\.weight",
            to_decoder,
            "decoder",
            left or why,
            turn if decoder else None,
        ),
        Rule(r"decoder\.transpconvs\.\d+\.bias", to_decoder, "decoder", left),
        Rule(r"decoder\.stages\.\d+\.convs\.\d+\.norm\.(weight|bias)", to_decoder, "decoder", left),
        Rule(r"decoder\.seg_layers\.\d+\.(weight|bias)", to_heads, "heads", no_head),
    )


def part_of(name: str) -> str:
    """Return the part of a name here."""
    if name.startswith("decoder.seg_layers."):
        return "heads"
    if name.startswith("decoder."):
        return "decoder"
    return "stem" if name.startswith("encoder.stem.") else "blocks"


def _turned(triples: Sequence[Triple], axes: Sequence[int]) -> tuple[Triple, ...]:
    back = [list(axes).index(axis) for axis in range(3)]
    return tuple((each[back[0]], each[back[1]], each[back[2]]) for each in triples)
