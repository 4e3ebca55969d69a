"""Settings of `medssl.methods.parts`, and what settings of a method take to have parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from medssl.methods.parts.table import PARTS, refused
from medssl.settings import Settings

__all__ = [
    "DirectPredSettings",
    "FeatureMixSettings",
    "GroCoSettings",
    "MoCHiSettings",
    "PairParts",
    "ReweightSettings",
    "SogCLRSettings",
    "WithParts",
]

Temperature = Annotated[float, Field(gt=0)]


class FeatureMixSettings(Settings):
    """Feature transformation: positives drawn apart, negatives mixed."""

    positive_alpha: float = Field(2.0, ge=0, description="Parameters of 1 + Beta, by which positives part; 0: none.")
    negative_alpha: float = Field(1.6, ge=0, description="Parameters of Beta, by which negatives mix; 0: none.")


class MoCHiSettings(Settings):
    """MoCHi: mixtures of the hardest negatives of each anchor."""

    hardest: int = Field(64, ge=2, description="Negatives nearest to the anchor that are mixed; 1024 in the paper.")
    mixed: int = Field(32, ge=0, description="Mixtures of two of them; 1024 in the paper.")
    with_anchor: int = Field(8, ge=0, description="Mixtures of one of them with the anchor; 128 in the paper.")
    start: float = Field(0.1, ge=0, le=1, description="Share of the run that trains without mixtures.")


class SogCLRSettings(Settings):
    """SogCLR, with individual temperatures iSogCLR; the defaults are those of LibAUC."""

    gamma: float = Field(0.9, gt=0, le=1, description="How much of an item's estimate a step replaces.")
    individual: bool = Field(False, description="Whether each item has a temperature of its own (iSogCLR).")
    temperatures: tuple[Temperature, Temperature] = Field((0.05, 0.7), description="Least and greatest of these.")
    rho: float = Field(0.3, ge=0, description="What holds them: the larger, the lower they go.")
    eta: float = Field(0.01, ge=0, description="Rate at which they move.")
    beta: float = Field(0.9, gt=0, le=1, description="How much of their running gradient a step replaces.")

    @model_validator(mode="after")
    def _ordered(self) -> SogCLRSettings:
        low, high = self.temperatures
        if low > high:
            raise ValueError(f"temperatures must begin with the lower one. Got {self.temperatures}.")
        return self


class GroCoSettings(Settings):
    """GroCo; the defaults are the paper's."""

    nearest: int = Field(10, ge=1, description="Negatives nearest to the anchor that are sorted with its positives.")
    steepness: float = Field(1.0, gt=0, description="Of the comparators: the larger, the harder the sort.")


class ReweightSettings(Settings):
    """A fixed head: feature i of the embedding is divided by kappa to the power i."""

    kappa: float = Field(1.02, ge=1, le=2, description="1 leaves the embedding as it is; 1.02 weighs some 50 of it.")


class DirectPredSettings(Settings):
    """DirectPred; the defaults are the paper's, of its code eps is 0.01."""

    rho: float = Field(0.3, ge=0, lt=1, description="How much of the features' correlation outlives a step.")
    eps: float = Field(0.1, ge=0, description="What every direction gets beside its share.")
    every: int = Field(1, ge=1, description="Steps from one predictor to the next; more where features are wide.")


class PairParts(Settings):
    """Parts of a contrast: method.parts=mochi, method.parts=[feature_mix,mochi], or method.parts.mochi.hardest=128."""

    feature_mix: FeatureMixSettings | None = Field(None, description="Positives drawn apart, negatives mixed.")
    mochi: MoCHiSettings | None = Field(None, description="Hard negatives mixed for each anchor.")
    sogclr: SogCLRSettings | None = Field(None, description="A running denominator, and a temperature, of each item.")
    groco: GroCoSettings | None = Field(None, description="Order of groups in place of a contrast.")
    reweight: ReweightSettings | None = Field(None, description="A fixed head in place of a trained one.")
    directpred: DirectPredSettings | None = Field(None, description="A computed predictor in place of a trained one.")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """Take names for parts at their defaults."""
        names = [given] if isinstance(given, str) else given
        return {name: {} for name in names} if isinstance(names, list | tuple) else names

    def chosen(self) -> Mapping[str, Settings]:
        """Return the parts that were chosen, in the order in which they work."""
        return {name: part for name in PARTS if (part := getattr(self, name, None)) is not None}


class WithParts(Settings):
    """A method whose contrast takes parts."""

    parts: PairParts = PairParts()

    @property
    def offers(self) -> frozenset[str]:
        """What the method has that parts want or exclude."""
        return frozenset()

    @model_validator(mode="after")
    def _go_together(self) -> WithParts:
        why = refused(list(self.parts.chosen()), self.offers)
        if why:
            raise ValueError(why)
        return self
