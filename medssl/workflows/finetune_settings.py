"""What ``finetune`` may be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from medssl.domains.data_settings import LabelledSettings
from medssl.domains.domain import Domain, domain_named, domain_of, domain_of_card, domain_with, domains
from medssl.domains.labels import suited_task
from medssl.encoders.table import ENCODERS, pooled_as_then
from medssl.engine.train_settings import TrainSettings
from medssl.engine.transfer_settings import TransferSettings
from medssl.errors import ConfigError
from medssl.settings import Auto, Resolved, Settings, flatten, resolve
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.settings.inference import InferenceSettings
from medssl.tasks.settings.segmentation import SegmentationSettings
from medssl.workflows.pretrain_settings import EncoderSettings

if TYPE_CHECKING:
    TaskName = str
    CloudTaskSettings = Settings
else:
    TaskName = Literal[tuple(dict.fromkeys(name for domain in domains() for name in domain.tasks))]
    CloudTaskSettings = domain_named("points").tasks.settings_class("segmentation")

__all__ = ["FinetuneSettings", "TransferSettings", "resolved_settings"]

_POOL = "encoder.pool"


class FinetuneSettings(Settings):
    """Everything that decides a fine-tuning run."""

    verb: ClassVar[str] = "finetune"

    @classmethod
    def as_recorded(cls, layer: dict[str, Any]) -> dict[str, Any]:
        """Return what a run.yaml holds, pooled as its release pooled."""
        return pooled_as_then(layer)

    task: TaskName = Field(default="segmentation", description="What is learned.")
    segmentation: SegmentationSettings = Field(default=SegmentationSettings(), description="For --task segmentation.")
    classification: ClassificationSettings = Field(
        default=ClassificationSettings(), description="For --task classification."
    )
    cloud: CloudTaskSettings = Field(
        default_factory=CloudTaskSettings, description="For either task on clouds, in place of the groups above."
    )
    encoder: EncoderSettings = Field(default_factory=ENCODERS.settings_class("residual"))  # type: ignore[assignment]
    transfer: TransferSettings = TransferSettings()
    train: TrainSettings = TrainSettings(steps=5000, batch_size=2, lr=1e-3, schedule="poly", warmup=0.05)
    data: LabelledSettings = LabelledSettings()
    inference: InferenceSettings = InferenceSettings()

    @model_validator(mode="after")
    def _nothing_moot(self) -> FinetuneSettings:
        self.domain.refuse_moot(self.data)
        return self

    @property
    def domain(self) -> Domain:
        """The kind of data that the encoder is for."""
        return domain_with("encoders", self.encoder.name)


def resolved_settings(
    preset: str | Path | None, overrides: Sequence[str], options: Mapping[str, object]
) -> Resolved[FinetuneSettings]:
    """Return the settings; where nothing else says, the task suits the store, and the window is the pretraining run's.

    With a pretraining run its encoder's settings are taken.
    """
    resolved = resolve(FinetuneSettings, preset=preset, overrides=overrides, command_line=options)
    suited: dict[str, Auto] = {}
    if resolved.origins["task"] == "default" and (folder := resolved.settings.data.store):
        place = Path(folder)
        domain = domain_of(place)
        suited = suited_task(domain.labels_of(domain.open(place))) if domain.claims(place) else {}
        if suited:
            resolved = resolve(
                FinetuneSettings, preset=preset, overrides=overrides, command_line=options, defaults=suited
            )
    source = resolved.settings.transfer.run
    if source:
        from medssl.engine.card import load_card  # loads numpy, which a look at the settings needs not

        card = load_card(Path(source))
        theirs = domain_of_card(card)
        if resolved.settings.task in theirs.tasks:
            seen = theirs.task(resolved.settings.task).as_in(card)
            suited |= {key: Auto(value, f"as in {source}") for key, value in seen.items() if value is not None}
        if suited:
            resolved = resolve(
                FinetuneSettings, preset=preset, overrides=overrides, command_line=options, defaults=suited
            )
        own = [key for key, at in resolved.origins.items() if key.startswith("encoder.") and at == "command line"]
        # The pooling is no weight that is carried over: who names the run may name another, as a run's own file does.
        pooled = theirs.repools and resolved.origins.get(_POOL) == resolved.origins["transfer.run"]
        own = [key for key in own if not (key == _POOL and pooled)]
        if own:
            raise ConfigError(
                f"The encoder is that of {source}, and {', '.join(own)} would change it. Leave that out, or leave the "
                "run out to train this encoder from scratch."
            )
        kept = dict(card.encoder)
        if pooled:
            kept["pool"] = getattr(resolved.settings.encoder, "pool", None)
        encoder = theirs.encoders.settings_of(kept)
        origins = {key: at for key, at in resolved.origins.items() if not key.startswith("encoder.")}
        origins |= {f"encoder.{key}": f"auto (card of {source})" for key in flatten(encoder)}
        origins |= {_POOL: resolved.origins[_POOL]} if pooled else {}
        resolved = Resolved(resolved.settings.model_copy(update={"encoder": encoder}), origins)
    if not resolved.settings.data.store:
        raise ConfigError("There is no store to train on. Give one with --data; `medssl cache` makes it.")
    return resolved
