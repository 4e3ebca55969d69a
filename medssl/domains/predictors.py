"""What predictors of one kind do alike, whatever they predict: classes go into the table, maps into files."""

from __future__ import annotations

from typing import Any

from medssl.evaluation.calibration import Decision, decision_words
from medssl.prediction import Target

__all__ = ["ClassPredictor", "MapPredictor"]


class ClassPredictor:
    """Predicts classes. See `medssl.prediction.Predictor`.

    Attributes:
        class_names: The classes.
        decision: How probabilities become one of them.
    """

    class_names: tuple[str, ...]
    decision: Decision

    @property
    def noun(self) -> str:
        """What is predicted."""
        return f"classes {', '.join(self.class_names)}"

    @property
    def said(self) -> str:
        """The same, and how they are decided."""
        return f"{self.noun}. {decision_words(self.decision, self.class_names)}"

    @property
    def names(self) -> dict[int, str]:
        """No names: what is predicted stands in the table."""
        return {}

    def sidecar(self) -> dict[str, Any]:
        """Return nothing: what is predicted stands in the table."""
        return {}

    def files(self, target: Target) -> tuple[str, ...]:
        """Return no names: classes go into the table."""
        return ()


class MapPredictor:
    """Predicts a value for each voxel or point. See `medssl.prediction.Predictor`.

    Attributes:
        what: What the values are of, in words: "parts".
        names: Value -> name.
    """

    what: str
    names: dict[int, str]

    @property
    def noun(self) -> str:
        """What is predicted."""
        return f"{self.what} {', '.join(self.names.values())}"

    @property
    def said(self) -> str:
        """The same."""
        return self.noun

    @property
    def decision(self) -> None:
        """None: no class is decided on."""
        return None
