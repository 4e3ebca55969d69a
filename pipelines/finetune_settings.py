"""What ``finetune`` may be told, and the network that it starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from medssl.domains.domain import domain_of
from medssl.domains.labels import suited_task
from medssl.encoders.table import ENCODERS, pooled_as_then
from medssl.engine.card import load_card, load_weights
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError
from medssl.randomness import numpy_generator
from medssl.settings import Auto, Resolved, Settings, flatten, resolve
from medssl.tasks.channel_transfer import ChannelPolicy, ChannelTransfer
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.inference import InferenceSettings
from medssl.tasks.segmentation import SegmentationSettings
from medssl.tasks.transfer import TransferReport, carry_over
from pipelines.finetune_scans import LabelledSettings
from pipelines.pretrain_settings import EncoderSettings
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.tasks.settings import CloudTaskSettings

__all__ = [
    "FinetuneSettings",
    "TransferSettings",
    "carry_encoder",
    "channel_transfer",
    "few_words",
    "fresh_weights",
    "resolved_settings",
]

_POOL = "encoder.pool"
_INITIAL = 8  # counter that keeps the draw of fresh weights apart from all others


class TransferSettings(Settings):
    """What the network starts from."""

    run: str = Field(default="", description="The pretraining run whose encoder is used; '' for none.")
    from_scratch: bool = Field(default=False, description="Take the encoder's architecture, but not its weights.")
    minimum_share: float = Field(
        default=0.9, ge=0, le=1, description="Least share of the encoder's weights that must fit."
    )
    channels: ChannelPolicy = Field(
        default="repeat",
        description="Where the store has other channels than the pretraining run: 'repeat' takes its first kernels in "
        "turn, 'average' their mean for every channel, both scaled so that an image shown in every channel gives what "
        "it gave; 'match' copies channels of the same name and draws the rest afresh.",
    )
    decoder: bool = Field(
        default=True, description="Carry the decoder over too, as far as it fits, where one was kept."
    )


class FinetuneSettings(Settings):
    """Everything that decides a fine-tuning run."""

    verb: ClassVar[str] = "finetune"

    @classmethod
    def as_recorded(cls, layer: dict[str, Any]) -> dict[str, Any]:
        """Return what a run.yaml holds, pooled as its release pooled."""
        return pooled_as_then(layer)

    task: Literal["segmentation", "classification"] = Field(default="segmentation", description="What is learned.")
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
    def _clouds_have_no_channels(self) -> FinetuneSettings:
        if self.of_clouds and self.data.drop_channels:
            raise ValueError("data.drop_channels is of the channels of scans; clouds have none")
        return self

    @property
    def of_clouds(self) -> bool:
        """Whether the encoder is one of clouds."""
        return self.encoder.name in CLOUD_ENCODERS


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
        card = load_card(Path(source))
        seen = {
            f"{resolved.settings.task}.window": card.window,
            "cloud.points": card.points,
            "segmentation.convs_per_stage": card.decoder_convs,
        }
        defaults = suited | {key: Auto(value, f"as in {source}") for key, value in seen.items() if value is not None}
        if defaults:
            resolved = resolve(
                FinetuneSettings, preset=preset, overrides=overrides, command_line=options, defaults=defaults
            )
        own = [key for key, at in resolved.origins.items() if key.startswith("encoder.") and at == "command line"]
        # The pooling is no weight that is carried over: who names the run may name another, as a run's own file does.
        pooled = card.kind == "volume" and resolved.origins.get(_POOL) == resolved.origins["transfer.run"]
        own = [key for key in own if not (key == _POOL and pooled)]
        if own:
            raise ConfigError(
                f"The encoder is that of {source}, and {', '.join(own)} would change it. Leave that out, or leave the "
                "run out to train this encoder from scratch."
            )
        kept = dict(card.encoder)
        if pooled:
            kept["pool"] = getattr(resolved.settings.encoder, "pool", None)
        encoder = (CLOUD_ENCODERS if card.kind == "cloud" else ENCODERS).settings_of(kept)
        origins = {key: at for key, at in resolved.origins.items() if not key.startswith("encoder.")}
        origins |= {f"encoder.{key}": f"auto (card of {source})" for key in flatten(encoder)}
        origins |= {_POOL: resolved.origins[_POOL]} if pooled else {}
        resolved = Resolved(resolved.settings.model_copy(update={"encoder": encoder}), origins)
    if not resolved.settings.data.store:
        raise ConfigError("There is no store to train on. Give one with --data; `medssl cache` makes it.")
    return resolved


@contextmanager
def fresh_weights(seed: int) -> Iterator[None]:
    """Draw fresh weights inside; the same whatever is carried over: arms of a comparison differ in that alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(seed, 0, 0, _INITIAL).integers(1 << 62)))
        yield


def channel_transfer(settings: TransferSettings, channels: Sequence[str]) -> ChannelTransfer:
    """Return how the kernels that see the image are carried over to a store of these channels."""
    there = tuple(given.name for given in load_card(Path(settings.run)).inputs_known)
    return ChannelTransfer(settings.channels, there, tuple(channels))


def carry_encoder(
    settings: TransferSettings, encoder: nn.Module, channels: Sequence[str] | None = None
) -> list[TransferReport]:
    """Carry the pretrained encoder over, where one is asked for; return what became of it.

    Args:
        settings: What to start from.
        encoder: Where to.
        channels: Of the store; None for clouds.

    Raises:
        TransferError: Too little of it fits.
    """
    if not settings.run or settings.from_scratch:
        return []
    return [
        carry_over(
            load_weights(Path(settings.run)),
            encoder,
            source=settings.run,
            minimum_share=settings.minimum_share,
            channels=None if channels is None else channel_transfer(settings, channels),
        )
    ]


def few_words(settings: FinetuneSettings) -> str:
    """Return how many labelled patients or objects were drawn, for a line about the data; "" where all are taken."""
    data, owners = settings.data, "objects" if settings.of_clouds else "patients"
    return f" (draw {data.draw} of {data.labels} labelled {owners})" if data.labels else ""
