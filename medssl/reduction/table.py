"""The strategies by name: what each looks at, how near two must be for one to stand for the other, and what it does.

All six of "Less is More" (all, every n-th, SSIM, mutual information, embedding similarity, hash), SemDeDup as published
and as repaired, balanced choice, k-centre, and random at the same size, which each of the others has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass

from medssl.table import Row, Table

__all__ = ["STRATEGIES", "Strategy"]


@dataclass(frozen=True, kw_only=True)
class Strategy(Row):
    """One strategy; ``needs`` is what it looks at: "codes", "vectors", "pictures" or "" for names alone.

    Attributes:
        radius: The default radius where no size is asked for; None where a size is needed.
        unit: What the radius counts, in words.
        summary: What it does, in one line.
    """

    summary: str
    radius: float | None = None
    unit: str = ""


STRATEGIES = Table(
    "strategy",
    (
        Strategy(name="all", target="medssl.reduction.strategies.everything", radius=0.0, summary="Keep everything."),
        Strategy(
            name="every",
            target="medssl.reduction.strategies.every",
            summary="Every n-th, in the order in which they lie.",
        ),
        Strategy(
            name="random",
            target="medssl.reduction.strategies.at_random",
            summary="At random: the baseline at the same size.",
        ),
        Strategy(
            name="hash",
            target="medssl.reduction.strategies.by_hash",
            needs="codes",
            radius=6.0,
            unit="differing bits",
            summary="Leaders by perceptual hash; on slices, Hash-6 of 'Less is More' exactly.",
        ),
        Strategy(
            name="ssim",
            target="medssl.reduction.strategies.by_structure",
            needs="pictures",
            radius=0.1,
            unit="1 - SSIM",
            summary="Leaders by structural similarity.",
        ),
        Strategy(
            name="mi",
            target="medssl.reduction.strategies.by_information",
            needs="pictures",
            radius=0.5,
            unit="1 - normalised mutual information",
            summary="Leaders by mutual information.",
        ),
        Strategy(
            name="embedding",
            target="medssl.reduction.strategies.by_embedding",
            needs="vectors",
            radius=0.05,
            unit="1 - cosine",
            summary="Leaders by the cosine of embeddings.",
        ),
        Strategy(
            name="semdedup",
            target="medssl.reduction.strategies.semdedup",
            needs="vectors",
            radius=0.05,
            unit="1 - cosine",
            summary="SemDeDup, repaired: what is left out has a kept one within the radius.",
        ),
        Strategy(
            name="semdedup-published",
            target="medssl.reduction.strategies.semdedup_as_published",
            needs="vectors",
            radius=0.05,
            unit="1 - cosine",
            summary="SemDeDup as its code does it, for comparison.",
        ),
        Strategy(
            name="kcentre",
            target="medssl.reduction.strategies.farthest",
            needs="vectors",
            unit="1 - cosine",
            summary="Always the one farthest from all chosen (coreset).",
        ),
        Strategy(
            name="balanced",
            target="medssl.reduction.strategies.balanced",
            needs="vectors",
            summary="Evenly over a tree of clusters: the rare is kept, the frequent thinned out.",
        ),
    ),
)
