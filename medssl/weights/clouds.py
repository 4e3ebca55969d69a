"""Networks of clouds: encoders of Point-MAE and Point-JEPA, and DGCNN as OcCo and CrossPoint pretrain it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medssl.errors import DataError
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.renaming import Rule

__all__ = ["dgcnn", "point_jepa", "point_mae"]

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
    if any("cls_token" in key or "img_token" in key for key in state):
        raise DataError(
            f"{found.shown}: has class tokens that its blocks see, as ReCon's three, and our encoder has one at most. "
            "Nearest: Point-MAE's own pretrain.pth."
        )
    names = _Names(
        encoder=f"{at}encoder", position=f"{at}pos_embed", blocks=f"{at}blocks.blocks", norm=f"{at}norm", biased=True
    )
    beside = Rule(r"(MAE_decoder|decoder_pos_embed|increase_dim)\..+|mask_token", "", "heads", "of its decoder")
    return _point_vit(found, place, state, stripped, names, [beside], "'MAE_encoder' with a mini-PointNet: Point-MAE")


def point_jepa(found: Found) -> Wanted | None:
    """Take Point-JEPA's encoder: the teacher's where it was saved, else the student's."""
    place, state, stripped = found.state("state_dict", "")
    tokeniser = "tokenizer.embedding.encoder"
    if f"{tokeniser}.first_conv.0.weight" not in state or "positional_encoding.0.weight" not in state:
        return None
    kept = "teacher.ema_model" if "teacher.ema_model.norm.weight" in state else "student"
    said = found.container.facts.get("hyper_parameters")
    told = dict(said) if isinstance(said, Mapping) else {}
    if told.get("tokenizer_group_radius") is not None:
        raise DataError(f"{found.shown}: its patches are those within a radius; ours are the nearest points.")
    beside = [
        Rule(r"teacher\.(initted|step|online_model\..+)", "", "beside", f"the {kept} is taken"),
        Rule(r"student\..+", "", "beside", f"the {kept} is taken"),
        Rule(r"predictor\..+|mask_token", "", "heads", "only its pretraining needs it"),
    ]
    names = _Names(
        encoder=tokeniser, position="positional_encoding", blocks=f"{kept}.blocks", norm=f"{kept}.norm", biased=False
    )
    wanted = _point_vit(found, place, state, stripped, names, beside, f"'tokenizer' and '{kept}': Point-JEPA")
    every = "every" if told.get("encoder_add_pos_at_every_layer", True) else "input"
    heads = int(told.get("encoder_heads", wanted.encoder["heads"]))
    return replace(
        wanted,
        encoder={**wanted.encoder, "positions": every, "heads": heads},
        facts={
            **wanted.facts,
            "taken": kept,
        },
    )


@dataclass(frozen=True)
class _Names:
    """Where the parts of a transformer of patches stand in a file; whether convolutions before norms have a bias."""

    encoder: str
    position: str
    blocks: str
    norm: str
    biased: bool


def _point_vit(
    found: Found,
    place: str,
    state: Mapping[str, Tensor],
    stripped: tuple[str, ...],
    names: _Names,
    beside: Sequence[Rule],
    evidence: str,
) -> Wanted:
    norm = state.get(f"{names.norm}.weight")
    first = state.get(f"{names.blocks}.0.mlp.fc1.weight")
    if norm is None or first is None:
        raise DataError(f"{found.shown}: is not a complete transformer: {names.norm} or {names.blocks}.0 is missing.")
    width = int(norm.shape[0])
    depth = next(n for n in range(1000) if f"{names.blocks}.{n}.norm1.weight" not in state)
    at = re.escape(names.encoder)
    rules = [
        *_normed(rf"{at}\.first_conv", "tokeniser.first", names),
        *_last(rf"{at}\.first_conv\.3", "tokeniser.first.linears.1"),
        *_normed(rf"{at}\.second_conv", "tokeniser.second", names),
        *_last(rf"{at}\.second_conv\.3", "tokeniser.second.linears.1"),
        Rule(rf"{re.escape(names.position)}\.(0|2)\.(weight|bias)", r"encoder.position.\1.\2", "stem"),
        *_block(rf"{re.escape(names.blocks)}\.(\d+)", width, biased=f"{names.blocks}.0.attn.qkv.bias" in state),
        Rule(rf"{re.escape(names.norm)}\.(weight|bias)", r"encoder.blocks.norm.\1", "blocks"),
        *beside,
    ]
    return Wanted(
        kind="cloud",
        encoder={
            "name": "point_vit",
            "width": width,
            "depth": depth,
            "heads": max(1, width // 64),
            "mlp_ratio": int(first.shape[0]) / width,
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
            f"{evidence}, {depth} blocks of width {width}",
            found_in(place, stripped),
        ),
        guesses=(
            f"{_ORDER}point, not at the first or a drawn one",
            "heads of 64 numbers, a token for each 16 points and patches of 32, where the file does not say: no tensor "
            "shows it",
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
            found_in(place, stripped),
        ),
        guesses=("20 neighbours: no tensor shows it",),
        facts={"card": {"points": 1024, "unit": "unknown"}},
    )


def _normed(at: str, to: str, names: _Names) -> list[Rule]:
    """Return the rules of a convolution over one place, with a bias or without, and the batch norm behind it."""
    plain = at.replace("\\", "")
    mean = Rule(rf"{at}\.1\.running_mean", f"encoder.{to}.norms.0.running_mean", "stem")
    if names.biased:
        mean = replace(mean, why=_MEAN, change=_less, fate="folded", takes=(f"{plain}.0.bias",))
    return [
        Rule(rf"{at}\.0\.weight", f"encoder.{to}.linears.0.weight", "stem", _MATRIX, _matrix),
        *([Rule(rf"{at}\.0\.bias", "", "stem", _MEAN, fate="folded")] if names.biased else []),
        mean,
        Rule(rf"{at}\.1\.(weight|bias|running_var|num_batches_tracked)", rf"encoder.{to}.norms.0.\1", "stem"),
    ]


def _last(at: str, to: str) -> list[Rule]:
    return [
        Rule(rf"{at}\.weight", f"encoder.{to}.weight", "stem", _MATRIX, _matrix),
        Rule(rf"{at}\.bias", f"encoder.{to}.bias", "stem"),
    ]


def _block(at: str, width: int, *, biased: bool) -> list[Rule]:
    """Return the rules of a block, whose queries, keys and values lie in one matrix, with a bias or without."""
    to = r"encoder.blocks.blocks.\1"
    split = ((f"{to}.key_value.weight", _rows(width, 3 * width)),)
    zeros = ((f"{to}.query.bias", _zeros(width)), (f"{to}.key_value.bias", _zeros(2 * width)))
    why = "queries, and keys and values" + ("" if biased else "; biases of 0")
    rules = [
        Rule(rf"{at}\.norm1\.(weight|bias)", rf"{to}.norm_attention.\2", "blocks"),
        Rule(rf"{at}\.norm2\.(weight|bias)", rf"{to}.norm_mlp.\2", "blocks"),
        Rule(
            rf"{at}\.attn\.qkv\.weight",
            f"{to}.query.weight",
            "blocks",
            why,
            _rows(0, width),
            also=split if biased else split + zeros,
        ),
        Rule(rf"{at}\.attn\.proj\.(weight|bias)", rf"{to}.out.\2", "blocks"),
        Rule(rf"{at}\.mlp\.fc1\.(weight|bias)", rf"{to}.mlp.0.\2", "blocks"),
        Rule(rf"{at}\.mlp\.fc2\.(weight|bias)", rf"{to}.mlp.2.\2", "blocks"),
    ]
    if biased:
        also = ((f"{to}.key_value.bias", _rows(width, 3 * width)),)
        rules.append(Rule(rf"{at}\.attn\.qkv\.bias", f"{to}.query.bias", "blocks", why, _rows(0, width), also=also))
    return rules


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
