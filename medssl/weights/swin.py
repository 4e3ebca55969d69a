"""Swin UNETR encoders: VoCo's, MONAI's and SuPreM's, all trained with MONAI's old patch merging on (x, y, z)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.renaming import Rule

__all__ = [
    "monai_swin50k",
    "monai_swinunetr",
    "monai_swinunetr_new",
    "monai_swinvit",
    "suprem_swin",
    "voco",
    "voco1",
    "vocomni",
]

_TOPS = ("state_dict", "net", "model", "")
_NARROW = (-175.0, 250.0, -175.0, 425.0)  # clipped to HU, less, over
_WIDE = (-1000.0, 1000.0, -1000.0, 2000.0)
_SKIPS = r"encoder(?:1|2|3|4|10)\.layer\..+"
_DECODER = "MONAI's decoder blocks are not those here"
_HEAD = "a head of its method"


def voco(found: Found) -> Wanted | None:
    """Take VoCo's Swin of version 2 (B, L, H): ``backbone``, and two projection heads."""
    place, state, stripped = found.state(*_TOPS)
    if not _has(state, "backbone.swinViT.") or not (_has(state, "student.layer") or _has(state, "teacher.layer")):
        return None
    beside = [
        Rule(r"(student|teacher)\..+", "", "heads", "a projection head"),
        Rule(r"backbone\.(decoder\d|out)\..+", "", "decoder", _DECODER),
        Rule(r"(queue|proto|\w*head)\w*(\..+)?", "", "heads", _HEAD),
    ]
    return _voco(
        found,
        place,
        state,
        stripped,
        at="backbone.",
        beside=beside,
        evidence="'backbone.swinViT' beside projection heads 'student' and 'teacher': VoCo",
    )


def vocomni(found: Found) -> Wanted | None:
    """Take VoComni's Swin: a whole Swin UNETR V2 of 21 classes."""
    place, state, stripped = found.state(*_TOPS)
    if not _has(state, "swinViT.layers1c.") or _outputs(state) != 21:
        return None
    return _voco(
        found,
        place,
        state,
        stripped,
        beside=[_decoder()],
        evidence="a whole Swin UNETR V2 of 21 outputs: VoComni",
    )


def voco1(found: Found) -> Wanted | None:
    """Take the first VoCo's Swin: ``student`` and ``teacher`` are whole encoders; its makers publish the teacher."""
    place, state, stripped = found.state(*_TOPS)
    if not _has(state, "student.swinViT.") and not _has(state, "teacher.swinViT."):
        return None
    taken, other = ("teacher", "student") if _has(state, "teacher.swinViT.") else ("student", "teacher")
    beside = [
        Rule(rf"{other}\..+", "", "beside", f"the {taken} is taken"),
        Rule(rf"{taken}\.\w*(proj_head|head|proj)\w*\..+", "", "heads", "a projection head"),
    ]
    wanted = _voco(
        found,
        place,
        state,
        stripped,
        at=f"{taken}.",
        beside=beside,
        evidence=f"'{taken}.swinViT' is a whole encoder: the first VoCo",
    )
    return replace(wanted, facts={"taken": taken})


def monai_swinvit(found: Found) -> Wanted | None:
    """Take MONAI's ``model_swinvit.pt``: the transformer alone, under names of its own."""
    place, state, stripped = found.state(*_TOPS)
    if "patch_embed.proj.weight" not in state or "layers1.0.blocks.0.attn.qkv.weight" not in state:
        return None
    if not _has(state, "layers1.0.blocks.0.mlp.fc1"):
        return None
    beside = [Rule(r"(rotation|contrastive|conv|norm)\w*(\..+)?", "", "heads", _HEAD)]
    return _swin(
        found,
        place,
        state,
        stripped,
        body="",
        beside=beside,
        numbers=_WIDE,
        spacing=(2.0, 1.5, 1.5),
        window=(96, 96, 96),
        pool="mean",
        may_be_fresh=("skips",),
        evidence="'patch_embed' and 'layers1' at the top, 'mlp.fc1' within: MONAI's self-supervised transformer",
        guesses=("spacing 1.5 x 1.5 x 2 mm: a flag of its makers' script, which nobody states as what was trained on",),
    )


def monai_swin50k(found: Found) -> Wanted | None:
    """Take the weights of MONAI's tutorial on 50,000 volumes: ``encoder.`` before a transformer of nested layers."""
    place, state, stripped = found.state("model", "state_dict", "")
    if not _has(state, "encoder.layers1.0.0.") or "encoder.patch_embed.proj.weight" not in state:
        return None
    beside = [
        Rule(r"encoder\.(mask_token|norm\..+)", "", "beside", "only its pretraining needs it"),
        Rule(r"(decoder|out|proj\w*|\w*head\w*)(\..+)?", "", "heads", _HEAD),
    ]
    return _swin(
        found,
        place,
        state,
        stripped,
        at="encoder.",
        body="",
        nested="0.0.",
        beside=beside,
        numbers=_NARROW,
        spacing=None,
        window=(96, 96, 96),
        pool="mean",
        may_be_fresh=("skips",),
        evidence="'encoder.layersN.0.0' under 'model': MONAI's transformer of 50,000 volumes",
        guesses=("-175 to 250 HU become 0 and 1: as its tutorial fine-tunes; pretraining's window is not stated",),
    )


def monai_swinunetr(found: Found) -> Wanted | None:
    """Take a Swin UNETR of MONAI before 1.5, such as BTCV's 14 outputs."""
    wanted = _swinunetr(found, merging="legacy")
    if wanted is None:
        return None
    state = wanted.state
    fourteen = _outputs(state) == 14 and not _has(state, "swinViT.layers1c.")
    doubt = "MONAI before 1.5 trained it: nothing in it shows that. If 1.5 or later did: --as monai-swinunetr-1.5"
    return replace(wanted, sure=fourteen, guesses=(doubt, *wanted.guesses))


def monai_swinunetr_new(found: Found) -> Wanted | None:
    """Take a Swin UNETR that MONAI 1.5 or later trained; nothing in it shows that, so it must be said."""
    wanted = _swinunetr(found, merging="monai")
    return None if wanted is None else replace(wanted, sure=False)


def _swinunetr(found: Found, *, merging: str) -> Wanted | None:
    place, state, stripped = found.state(*_TOPS)
    if not _has(state, "swinViT.layers1.") or _outputs(state) == 0 or _universal(state):
        return None
    return _swin(
        found,
        place,
        state,
        stripped,
        beside=[_decoder()],
        numbers=_WIDE,
        spacing=(2.0, 1.5, 1.5),
        window=(96, 96, 96),
        pool="mean",
        merging=merging,
        evidence=f"a whole Swin UNETR of {_outputs(state)} outputs",
        guesses=("-1000 to 1000 HU become 0 and 1, 1.5 x 1.5 x 2 mm: as MONAI's recipe for BTCV has it",),
    )


def suprem_swin(found: Found) -> Wanted | None:
    """Take SuPreM's Swin UNETR: under ``net``, with a branch of texts, or its backbone alone."""
    place, state, stripped = found.state("net", "state_dict", "")
    at = "backbone." if _has(state, "backbone.swinViT.") else ""
    if at and (_has(state, "student.layer") or _has(state, "teacher.layer")):
        return None
    if not _has(state, f"{at}swinViT.layers1.") or not (_universal(state) or place == "net"):
        return None
    beside = [
        _decoder(at),
        Rule(r"(organ_embedding|controller|GAP|precls_conv|text_to_vision)(\..+)?", "", "heads", "its branch of texts"),
    ]
    wanted = _swin(
        found,
        place,
        state,
        stripped,
        at=at,
        beside=beside,
        numbers=_NARROW,
        spacing=(1.5, 1.5, 1.5),
        window=(96, 96, 96),
        pool="mean",
        evidence="a Swin UNETR under 'net' or beside a branch of texts: SuPreM",
    )
    return replace(wanted, sure=_universal(state))


def _swin(
    found: Found,
    place: str,
    state: Mapping[str, Tensor],
    stripped: tuple[str, ...],
    *,
    at: str = "",
    body: str = "swinViT.",
    nested: str = "0.",
    beside: list[Rule],
    numbers: tuple[float, float, float, float],
    spacing: tuple[float, float, float] | None,
    window: tuple[int, int, int],
    pool: str,
    evidence: str,
    merging: str = "legacy",
    may_be_fresh: tuple[str, ...] = (),
    guesses: tuple[str, ...] = (),
) -> Wanted:
    settings = _sizes(state, f"{at}{body}", nested, found.shown)
    root, inner = re.escape(f"{at}{body}"), re.escape(nested)
    return Wanted(
        encoder={**settings, "merging": merging, "axes": "xyz", "pool": pool},
        place=place,
        state=state,
        rules=(
            *beside,
            Rule(rf"{root}(patch_embed\..+)", r"encoder.swinViT.\1", "stem"),
            Rule(
                rf"{root}(layers\d)\.{inner}(.+\.mlp)\.(?:fc|linear)(\d\..+)",
                r"encoder.swinViT.\1.0.\2.linear\3",
                "blocks",
            ),
            Rule(rf"{root}(layers\dc?)\.{inner}(.+)", r"encoder.swinViT.\1.0.\2", "blocks"),
            Rule(rf"{re.escape(at)}({_SKIPS})", r"encoder.\1", "skips"),
        ),
        part_of=_part_of,
        inputs=tuple(
            CardInput(
                name="ct" if settings["in_channels"] == 1 else f"channel {n}",
                modality="CT",
                normalise="dataset",
                numbers=numbers,
            )
            for n in range(settings["in_channels"])
        ),
        spacing_mm=spacing,
        window=window,
        evidence=(
            evidence,
            found_in(place, stripped),
            f"swin: feature_size {settings['feature_size']}, depths {list(settings['depths'])}, heads "
            f"{list(settings['heads'])}, window {settings['window']}, version {2 if settings['use_v2'] else 1}",
            f"merging {merging} and axes xyz: no tensor shows either; all published files have legacy and xyz",
        ),
        guesses=guesses,
        may_be_fresh=may_be_fresh,
    )


# What VoCo's files share: window of HU, voxels, crop, and the means of all levels as a vector.
_voco = partial(_swin, numbers=_NARROW, spacing=(1.5, 1.5, 1.5), window=(64, 64, 64), pool="levels")


def _sizes(state: Mapping[str, Tensor], at: str, nested: str, shown: str) -> dict[str, Any]:
    """Return the settings that the transformer's tensors tell; ``at`` and ``nested`` are parts of their names."""
    try:
        projection = state[f"{at}patch_embed.proj.weight"]
        depths, heads, side = [], [], 0
        for stage in range(1, 5):
            inner = f"{at}layers{stage}.{nested}blocks.{{}}.attn.relative_position_bias_table"
            depths.append(next(n for n in range(1000) if inner.format(n) not in state))
            table = state[inner.format(0)]
            heads.append(int(table.shape[1]))
            side = (round(table.shape[0] ** (1 / 3)) + 1) // 2
    except KeyError as error:
        raise DataError(f"{shown}: is not a complete Swin transformer: {error} is missing.") from error
    if projection.dim() != 5 or tuple(projection.shape[2:]) != (2, 2, 2):
        raise DataError(
            f"{shown}: its patches are {tuple(projection.shape[2:])}, and those of Swin UNETR are 2 x 2 x 2."
        )
    return {
        "name": "swin",
        "in_channels": int(projection.shape[1]),
        "feature_size": int(projection.shape[0]),
        "depths": tuple(depths),
        "heads": tuple(heads),
        "window": side,
        "use_v2": _has(state, f"{at}layers1c."),
    }


def _part_of(name: str) -> str:
    if name.startswith("encoder.swinViT.patch_embed"):
        return "stem"
    return "blocks" if name.startswith("encoder.swinViT.") else "skips"


def _decoder(at: str = "") -> Rule:
    return Rule(rf"{re.escape(at)}(decoder\d|out)\..+", "", "decoder", _DECODER)


def _has(state: Mapping[str, Tensor], start: str) -> bool:
    return any(key.startswith(start) for key in state)


def _universal(state: Mapping[str, Tensor]) -> bool:
    return _has(state, "organ_embedding") or _has(state, "precls_conv.")


def _outputs(state: Mapping[str, Tensor]) -> int:
    head = state.get("out.conv.conv.weight")
    return 0 if head is None else int(head.shape[0])
