"""The encoder of a pretraining run that goes on from published weights: that of the weights, not the preset's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medssl.domains.domain import domain_of_card
from medssl.engine.card import load_card
from medssl.settings import Resolved, flatten
from medssl.workflows.pretrain_settings import PretrainSettings

__all__ = ["with_encoder_of"]

_FREE = ("encoder.pool", "encoder.checkpointing", "encoder.drop_path")  # no weight depends on them


def with_encoder_of(resolved: Resolved[PretrainSettings], start: Path) -> Resolved[PretrainSettings]:
    """Return settings with the encoder of imported weights; as they are where the weights were trained here.

    What was said of the encoder on the command line stays, and is refused later where it differs. What no weight
    depends on (how features are pooled) is as the preset says it, and where it says nothing as the card does: a default
    of the preset's own encoder is not meant for this one.

    Raises:
        CheckpointError: There is no card at ``start``.
    """
    card = load_card(start)
    said = [key for key, at in resolved.origins.items() if key.startswith("encoder.") and at == "command line"]
    if card.origin is None or any(key not in _FREE for key in said):
        return resolved
    theirs: dict[str, Any] = dict(card.encoder)
    own = resolved.settings.encoder
    meant = [key for key in _FREE if resolved.origins.get(key, "default") != "default"]
    kept = [key for key in meant if hasattr(own, key.partition(".")[2]) and key.partition(".")[2] in theirs]
    theirs |= {key.partition(".")[2]: getattr(own, key.partition(".")[2]) for key in kept}
    encoder = domain_of_card(card).encoders.settings_of(theirs)
    origins = {key: at for key, at in resolved.origins.items() if not key.startswith("encoder.")}
    origins |= {f"encoder.{key}": f"auto (card of {start})" for key in flatten(encoder)}
    origins |= {key: resolved.origins[key] for key in kept if key in resolved.origins}
    return Resolved(resolved.settings.model_copy(update={"encoder": encoder}), origins)
