"""Kernels that see the image, carried over to other channels than they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.encoders.table import build_encoder
from medssl.engine.transfer_settings import ChannelPolicy
from medssl.errors import ConfigError, TransferError

__all__ = ["ChannelPolicy", "ChannelTransfer"]


@dataclass(frozen=True)
class ChannelTransfer:
    """What becomes of kernels over the input where the channels differ.

    With P pretrained channels, C of the network, kernels k:

    ============  ==========================================================================
    policy        kernel of channel c
    ============  ==========================================================================
    repeat        k[c mod P] * P / C
    repeat_whole  k[c mod P], as nnU-Net and STU-Net do
    average       mean(k) * P / C
    match         that of the pretrained channel of the same name; without one freshly drawn
    ============  ==========================================================================

    So an image that is shown in every channel gives with "average" what it gave, and with "repeat" too wherever C is a
    multiple of P (from one channel to four each kernel is a quarter of the old one).

    Attributes:
        policy: See above.
        there: Names of the pretrained channels.
        here: Names of the network's.
    """

    policy: ChannelPolicy
    there: tuple[str, ...]
    here: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.policy not in get_args(ChannelPolicy):
            raise ConfigError(f"channels must be one of {', '.join(get_args(ChannelPolicy))}. Got {self.policy!r}.")

    @property
    def changes(self) -> bool:
        """Whether any kernel must be adapted."""
        if len(self.there) != len(self.here):
            return True
        return self.policy == "match" and len(self.there) > 1 and self.there != self.here

    def check(self, source: str) -> None:
        """Refuse to carry over by place what is named in another order.

        Raises:
            TransferError: The same channels come in another order, and the policy goes by their places.
        """
        if self.policy != "match" and self.there != self.here and sorted(self.there) == sorted(self.here):
            raise TransferError(
                f"{source}: was trained on the channels {', '.join(self.there)}, and the store has them in another "
                f"order, {', '.join(self.here)}. Take transfer.channels=match, which goes by their names."
            )

    def line(self) -> str:
        """Return what is done, for the report; "" where nothing has to be said."""
        there, here = (f"{len(names)} ({', '.join(names)})" for names in (self.there, self.here))
        if self.there == self.here or (not self.changes and len(self.here) == 1):
            return ""
        told = f"input channels: {there} there, {here} here; transfer.channels={self.policy}: "
        if not self.changes:
            return f"{told}doubtful: carried over by their places, under other names"
        share = f"{len(self.there)}/{len(self.here)}"
        if self.policy == "match":
            found = [name for name in self.here if name in self.there]
            fresh = [name for name in self.here if name not in self.there]
            return f"{told}{', '.join(found) or 'none'} by name; freshly drawn: {', '.join(fresh) or 'none'}"
        words = {
            "repeat": f"kernels repeated in turn, times {share}",
            "repeat_whole": "kernels repeated in turn, as they are",
            "average": f"mean of the kernels for every channel, times {share}",
        }
        return told + words[self.policy]

    def kernels(self, part: nn.Module, pretrained: Mapping[str, Tensor]) -> frozenset[str]:
        """Return the names of the part's kernels that see the input and must be adapted."""
        if not self.changes:
            return frozenset()
        state = part.state_dict()
        if isinstance(part, Encoder):
            seen = _input_kernels(part)
        else:  # of a decoder: the convolution over the image itself, where it has one
            seen = {name for name in state if name.startswith("stem.convs.0.conv.")}
        return frozenset(n for n in seen if n in pretrained and _alike(pretrained[n], state[n], self))

    def adapted(self, kernel: Tensor, fresh: Tensor) -> Tensor | None:
        """Return a kernel over the network's channels, or None where no channel matches.

        Args:
            kernel: (outputs, P, ...).
            fresh: What the network has, (outputs, C, ...).
        """
        before, now = len(self.there), len(self.here)
        if self.policy == "average":
            return (kernel.sum(dim=1, keepdim=True) / now).expand_as(fresh)
        if self.policy in ("repeat", "repeat_whole"):
            repeated = kernel[:, [c % before for c in range(now)]]
            return repeated * (before / now) if self.policy == "repeat" else repeated
        places = [(c, self.there.index(name)) for c, name in enumerate(self.here) if name in self.there]
        if not places:
            return None
        found = fresh.clone()
        for place, source in places:
            found[:, place] = kernel[:, source]
        return found


def _alike(kernel: Tensor, fresh: Tensor, change: ChannelTransfer) -> bool:
    """Return whether two kernels differ in their input channels alone, which are those of the images."""
    ours, theirs = list(fresh.shape), list(kernel.shape)
    fits = len(ours) == len(theirs) >= 4 and ours[1] == len(change.here) and theirs[1] == len(change.there)
    return fits and ours[:1] + ours[2:] == theirs[:1] + theirs[2:]


def _input_kernels(encoder: Encoder) -> set[str]:
    """Return the parameters that have an axis over the input: those that differ in an encoder of one channel more."""
    with torch.random.fork_rng(devices=[]):
        other = build_encoder(encoder.settings.model_copy(update={"in_channels": encoder.in_channels + 1}))  # type: ignore[union-attr,operator]
    wider = other.state_dict()
    return {name for name, tensor in encoder.state_dict().items() if wider[name].shape != tensor.shape}
