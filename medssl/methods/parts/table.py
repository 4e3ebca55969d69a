"""The parts of the contrastive family by name: where each plugs in, what it needs and what it excludes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medssl.table import Row, Table

__all__ = ["PARTS", "PartRow", "parts_of", "refused"]


@dataclass(frozen=True, kw_only=True)
class PartRow(Row):
    """A part.

    Attributes:
        slot: What it is: negatives, temperature, order, head, predictor.
        wants: What a method must have for it, of what `offers` of its settings names.
        excludes: Other parts, or what a method has, that it does not go with -> why.
    """

    slot: str
    wants: tuple[str, ...] = ()
    excludes: Mapping[str, str] = field(default_factory=dict)


_IN_DATA = "its estimate holds for negatives drawn from the data, not for ones that are made"

PARTS = Table[PartRow](
    "part",
    (
        PartRow(
            name="feature_mix",
            target="medssl.methods.parts.negatives.FeatureMix",
            settings="medssl.methods.settings.parts.FeatureMixSettings",
            slot="negatives",
            paper="Zhu et al. 2021, arXiv:2108.02982",
            take_when="views of an item agree too soon, so that positives teach little",
            needs="two views",
            wants=("two views",),
            excludes={"sogclr": _IN_DATA},
        ),
        PartRow(
            name="mochi",
            target="medssl.methods.parts.negatives.MoCHi",
            settings="medssl.methods.settings.parts.MoCHiSettings",
            slot="negatives",
            paper="Kalantidis et al. 2020, arXiv:2010.01028",
            take_when="batches are small and most negatives are easy; best with a queue",
            needs="more negatives than it mixes: a queue, or large batches",
            wants=("contrast",),
            excludes={"sogclr": _IN_DATA},
        ),
        PartRow(
            name="sogclr",
            target="medssl.methods.parts.temperatures.SogCLR",
            settings="medssl.methods.settings.parts.SogCLRSettings",
            slot="temperature",
            paper="Yuan et al. 2022, arXiv:2202.12387; Qiu et al. 2023, arXiv:2305.11965",
            take_when="batches are small and there is no room for a queue; with individual=true, archives in which "
            "some kinds of scans are many and others few",
            needs="negatives of the batch; items that come again and again",
            wants=("batch",),
            excludes={
                "decoupled": "its loss is decoupled already, and weighs nothing else",
                "predictor": "its loss replaces the contrast of keys, whose scale is another",
            },
        ),
        PartRow(
            name="groco",
            target="medssl.methods.parts.order.GroCo",
            settings="medssl.methods.settings.parts.GroCoSettings",
            slot="order",
            paper="Shvetsova et al. 2023, arXiv:2301.02009",
            take_when="nearest neighbours of frozen features are the task, and no temperature is to be chosen",
            needs="negatives of the batch; batches of more than ten patients for its own numbers",
            wants=("batch",),
            excludes={
                "feature_mix": "it orders the features that there are",
                "mochi": "it orders the features that there are",
                "sogclr": "both replace the loss",
                "decoupled": "it has no denominator",
                "predictor": "its loss replaces the contrast of keys, whose scale is another",
            },
        ),
        PartRow(
            name="reweight",
            target="medssl.heads.FixedReweighting",
            settings="medssl.methods.settings.parts.ReweightSettings",
            slot="head",
            paper="Xue et al. 2024, arXiv:2403.11391",
            take_when="a head without weights is wanted: what the encoder gives is nearer to what is compared",
            needs="a head that nothing else is built on",
            wants=("head",),
        ),
        PartRow(
            name="directpred",
            target="medssl.methods.parts.direct_predictor.DirectPredictor",
            settings="medssl.methods.settings.parts.DirectPredSettings",
            slot="predictor",
            paper="Tian et al. 2021, arXiv:2102.06810",
            take_when="runs of BYOL are short, or its trained predictor is one thing more to tune",
            needs="a predictor that follows a teacher; weight decay",
            wants=("prediction",),
        ),
    ),
)

# What a method may have, in words of a refusal.
_HAVE = {
    "two views": "exactly two views of an item",
    "batch": "negatives from the batch itself",
    "queue": "a queue of keys",
    "decoupled": "decoupled=dcl or dclw",
    "predictor": "a predictor (version v3)",
    "head": "a head that nothing else is built on",
    "contrast": "a contrast with negatives",
    "prediction": "a predictor that follows a teacher (byol)",
}


def parts_of(offers: frozenset[str]) -> list[str]:
    """Return the parts that go with a method that has so much."""
    return [name for name in PARTS if not _fault(name, [], offers)]


def refused(chosen: list[str], offers: frozenset[str]) -> str:
    """Return why parts do not go together, or with a method, in sentences that say what to do; empty where they do.

    Args:
        chosen: Names of parts.
        offers: What the method has, by the settings that it was given.
    """
    fault = next((fault for name in chosen if (fault := _fault(name, chosen, offers))), "")
    return fault and f"{fault}. Parts that fit here: {', '.join(parts_of(offers)) or 'none'}"


def _fault(name: str, chosen: list[str], offers: frozenset[str]) -> str:
    row = PARTS[name]
    for want in row.wants:
        if want not in offers:
            return f"the part '{name}' needs {_HAVE[want]}"
    for other, why in row.excludes.items():
        if other in chosen or other in offers:
            found = f"the part '{other}'" if other in PARTS else _HAVE[other]
            return f"the part '{name}' does not go with {found}: {why}. Leave one of them out"
    return ""
