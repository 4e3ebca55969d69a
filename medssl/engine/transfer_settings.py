"""What a fine-tuned network starts from, as settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings

__all__ = ["ChannelPolicy", "TransferSettings"]

ChannelPolicy = Literal["repeat", "repeat_whole", "average", "match"]


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
        "it gave; 'repeat_whole' is 'repeat' without the scale, as nnU-Net does; 'match' copies channels of the same "
        "name and draws the rest afresh.",
    )
    decoder: bool = Field(
        default=True, description="Carry the decoder over too, as far as it fits, where one was kept."
    )
