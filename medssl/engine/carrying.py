"""What a fine-tuned network starts from: the settings, and carrying a pretrained encoder over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field
from torch import nn

from medssl.engine.card import load_card, load_weights
from medssl.engine.channel_transfer import ChannelPolicy, ChannelTransfer
from medssl.engine.transfer import TransferReport, carry_over
from medssl.settings import Settings

__all__ = ["TransferSettings", "carry_encoder", "channel_transfer"]


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
