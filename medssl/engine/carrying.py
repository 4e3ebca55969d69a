"""Carrying a pretrained encoder over to the network that is fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from medssl.engine.card import load_card, load_weights
from medssl.engine.channel_transfer import ChannelTransfer
from medssl.engine.transfer import TransferReport, carry_over
from medssl.engine.transfer_settings import TransferSettings

__all__ = ["carry_encoder", "channel_transfer"]


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
