"""Networks of clouds: Point-MAE's encoder, and DGCNN as OcCo and CrossPoint pretrain it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medssl.weights.finding import Found, Wanted
from medssl.weights.renaming import Rule

__all__ = ["dgcnn", "point_mae"]

_MEAN = "a bias before a batch norm goes into its running mean"
_MATRIX = "a kernel over one place, as a matrix"
_ORDER = (
    "points are put about the cloud's mean and into its unit sphere, as there; the first patch lies at the outermost "
)


def point_mae(found: Found) -> Wanted | None:
    """Take Point-MAE's encoder (``MAE_encoder`` under ``base_model``); its decoder is left out."""
    place, state, stripped = found.state("base_model", "state_dict", "model", "")
    at = "MAE_encoder."
    if f"{at}encoder.first_conv.0.weight" not in state or f"{at}pos_embed.0.weight" not in state:
        return None
    width = state[f"{at}norm.weight"].shape[0] if f"{at}norm.weight" in state else 0
    depth = next(n for n in range(1000) if f"{at}blocks.blocks.{n}.norm1.weight" not in state)
    hidden = state[f"{at}blocks.blocks.0.mlp.fc1.weight"].shape[0] if depth else 0
    rules = [
        *_normed(rf"{at}encoder\.first_conv", 0, 1, "tokeniser.first", 0),
        *_last(rf"{at}encoder\.first_conv\.3", "tokeniser.first.linears.1"),
        *_normed(rf"{at}encoder\.second_conv", 0, 1, "tokeniser.second", 0),
        *_last(rf"{at}encoder\.second_conv\.3", "tokeniser.second.linears.1"),
        Rule(rf"{at}pos_embed\.(0|2)\.(weight|bias)", r"encoder.position.\1.\2", "stem"),
        *_block(rf"{at}blocks\.blocks\.(\d+)", width),
        Rule(rf"{at}norm\.(weight|bias)", r"encoder.blocks.norm.\1", "blocks"),
        Rule(r"(MAE_decoder|decoder_pos_embed|increase_dim)\..+|mask_token", "", "heads", "of its decoder"),
    ]
    return Wanted(
        kind="cloud",
        encoder={
            "name": "point_vit",
            "width": width,
            "depth": depth,
            "heads": max(1, width // 64),
            "mlp_ratio": hidden / max(width, 1),
            "points_per_token": 16,
            "patch": 32,
            "tokeniser": "pointnet",
            "positions": "every",
            "pool": "max_mean",
        },
        place=place,
        state=state,
        rules=rules,
        part_of=_part_of,
        evidence=(
            f"'MAE_encoder' with a mini-PointNet of patches, {depth} blocks of width {width}: Point-MAE",
            f"tensors in '{place or 'the outermost mapping'}'" + "".join(f", without '{one}'" for one in stripped),
        ),
        guesses=(
            f"{_ORDER}point, not at the first in the file",
            "a token for each 16 points and patches of 32: no tensor shows it",
        ),
        facts={"card": {"points": 1024, "unit": "unknown"}},
    )


def dgcnn(found: Found) -> Wanted | None:
    """Take a DGCNN of classification: five convolutions, each with its norm under two names."""
    place, state, stripped = found.state("model_state_dict", "state_dict", "base_model", "model", "")
    if any(f"conv{n}.0.weight" not in state for n in range(1, 6)) or "conv6.0.weight" in state:
        return None
    if state["conv1.0.weight"].shape[1] != 6:
        return None
    widths = tuple(int(state[f"conv{n}.0.weight"].shape[0]) for n in range(1, 5))
    rules = [rule for n in range(1, 6) for rule in _edge(n, f"edges.{n - 1}" if n < 5 else "last")]
    rules.append(Rule(r"(linear\d|bn[67]|fc\d?|inv_head|head|dp\d|proj\w*|folding\d*)(\..+)?", "", "heads", "a head"))
    return Wanted(
        kind="cloud",
        encoder={
            "name": "dgcnn",
            "widths": widths,
            "embedding": int(state["conv5.0.weight"].shape[0]),
            "neighbours": 20,
        },
        place=place,
        state=state,
        rules=rules,
        part_of=_part_of,
        evidence=(
            f"conv1 to conv5 with bn1 to bn5, edges of 6 numbers, widths {list(widths)}: DGCNN of classification",
            f"tensors in '{place or 'the outermost mapping'}'" + "".join(f", without '{one}'" for one in stripped),
        ),
        guesses=("20 neighbours: no tensor shows it",),
        facts={"card": {"points": 1024, "unit": "unknown"}},
    )


def _normed(at: str, conv: int, norm: int, to: str, number: int) -> list[Rule]:
    """Return the rules of a convolution over one place with a bias, and the batch norm behind it."""
    plain = at.replace("\\", "")
    return [
        Rule(rf"{at}\.{conv}\.weight", f"encoder.{to}.linears.{number}.weight", "stem", _MATRIX, _matrix),
        Rule(rf"{at}\.{conv}\.bias", "", "stem", _MEAN, fate="folded"),
        Rule(
            rf"{at}\.{norm}\.running_mean",
            f"encoder.{to}.norms.{number}.running_mean",
            "stem",
            _MEAN,
            _less,
            fate="folded",
            takes=(f"{plain}.{conv}.bias",),
        ),
        Rule(
            rf"{at}\.{norm}\.(weight|bias|running_var|num_batches_tracked)", rf"encoder.{to}.norms.{number}.\1", "stem"
        ),
    ]


def _last(at: str, to: str) -> list[Rule]:
    return [
        Rule(rf"{at}\.weight", f"encoder.{to}.weight", "stem", _MATRIX, _matrix),
        Rule(rf"{at}\.bias", f"encoder.{to}.bias", "stem"),
    ]


def _block(at: str, width: int) -> list[Rule]:
    """Return the rules of a block, whose queries, keys and values lie in one matrix without a bias."""
    to = r"encoder.blocks.blocks.\1"
    return [
        Rule(rf"{at}\.norm1\.(weight|bias)", rf"{to}.norm_attention.\2", "blocks"),
        Rule(rf"{at}\.norm2\.(weight|bias)", rf"{to}.norm_mlp.\2", "blocks"),
        Rule(
            rf"{at}\.attn\.qkv\.weight",
            f"{to}.query.weight",
            "blocks",
            "queries, and keys and values; biases of 0",
            _rows(0, width),
            also=(
                (f"{to}.key_value.weight", _rows(width, 3 * width)),
                (f"{to}.query.bias", _zeros(width)),
                (f"{to}.key_value.bias", _zeros(2 * width)),
            ),
        ),
        Rule(rf"{at}\.attn\.proj\.(weight|bias)", rf"{to}.out.\2", "blocks"),
        Rule(rf"{at}\.mlp\.fc1\.(weight|bias)", rf"{to}.mlp.0.\2", "blocks"),
        Rule(rf"{at}\.mlp\.fc2\.(weight|bias)", rf"{to}.mlp.2.\2", "blocks"),
    ]


def _edge(number: int, to: str) -> list[Rule]:
    twin = "the second name of a tensor"
    return [
        Rule(rf"conv{number}\.0\.weight", f"encoder.{to}.linears.0.weight", "blocks", _MATRIX, _matrix),
        Rule(
            rf"bn{number}\.(weight|bias|running_mean|running_var|num_batches_tracked)",
            rf"encoder.{to}.norms.0.\1",
            "blocks",
        ),
        Rule(rf"conv{number}\.1\.(.+)", "", "beside", twin, twin=rf"bn{number}.\1"),
    ]


def _matrix(kernel: Tensor) -> Tensor:
    return kernel.flatten(1)


def _less(mean: Tensor, bias: Tensor) -> Tensor:
    return mean - bias


def _rows(first: int, last: int) -> Callable[[Tensor], Tensor]:
    return lambda matrix: matrix[first:last].clone()


def _zeros(length: int) -> Callable[[Tensor], Tensor]:
    return lambda _: torch.zeros(length)


def _part_of(name: str) -> str:
    return "stem" if name.startswith(("encoder.tokeniser.", "encoder.position.")) else "blocks"
