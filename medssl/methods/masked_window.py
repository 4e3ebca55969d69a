"""What all masked reconstruction shares: one window a scan, patches of it hidden, an error in those patches alone."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.methods.contract import Losses, Method
from medssl.methods.fitting import Room
from medssl.methods.settings.masked_window import MaskedWindowSettings, Triple
from medssl.objectives.diagnostics import effective_rank
from medssl.objectives.reconstruction import masked_reconstruction
from medssl.randomness import Stream
from medssl.views.intensity import apply_intensity, sample_intensity
from medssl.views.masking import sample_patch_mask, to_voxels
from medssl.views.spatial import apply_spatial, sample_spatial
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["MaskedViews", "MaskedWindow", "MaskedWindowSettings", "inside_scan"]


@dataclass(frozen=True)
class MaskedViews:
    """What is drawn, hidden and counted.

    Attributes:
        target: (B, C, z, y, x).
        hidden: Bool by patch, (B, z', y', x'). One mask for all channels, as published for the colours of a picture:
            a channel that is seen where another is hidden gives much of it away.
        inside: Voxels that count, bool, (B, 1 or C, z, y, x): inside the scan, in channels that are there.
    """

    target: Tensor
    hidden: Tensor
    inside: Tensor


class MaskedWindow(Method):
    """Hide patches of a window, draw them again from the rest; a method says how they are hidden and drawn.

    Args:
        settings: See ``MaskedWindowSettings``.
        encoder: What is pretrained; the window must fit its ``size_multiple``.
        patch: Size of the patches that are hidden, (z, y, x).

    Raises:
        ValueError: If the window does not fit the encoder or the patch.
    """

    error: ClassVar[Literal["squared", "absolute"]] = "squared"
    items_per_step: ClassVar[tuple[int, int]] = (4, 2)

    def __init__(self, settings: MaskedWindowSettings, encoder: Encoder, *, patch: Triple) -> None:
        super().__init__()
        for name, multiple in (("encoder's multiple", encoder.size_multiple), ("patch", patch)):
            if any(w % m for w, m in zip(settings.window, multiple, strict=True)):
                fits = [-(-n // m) * m for n, m in zip(settings.window, multiple, strict=True)]
                smaller = " or a smaller method.patch" if name == "patch" else ""
                raise ValueError(
                    f"The window {settings.window} must be a multiple of the {name} {multiple}. Take "
                    f"method.window={str(fits).replace(' ', '')}{smaller}."
                )
        self.settings = settings
        self.encoder: Encoder = encoder
        self.patch = patch

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """A window that the smallest encoder halves twice, its coarsest voxels as patches."""
        return {"window": (16, 24, 16)}

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Hide patches of the window."""
        return {"window": list(room.window), "patch": room.patch()}

    def check(self) -> None:
        """See that the encoder takes the window, and that it has more than one patch."""
        self.encoder.check_size(self.settings.window)
        if self.settings.window == self.patch:
            raise ValueError(
                f"The window {self.settings.window} is one patch, and of patches some are hidden and some are seen. "
                "Take a larger method.window or a smaller method.patch."
            )

    @abstractmethod
    def reconstruct(self, views: MaskedViews) -> Tensor:
        """Return the drawn windows, (B, C, z, y, x)."""

    @property
    def plan(self) -> WindowPlan:
        """One window a scan."""
        return WindowPlan(size=self.settings.window, placement="body")

    def views(self, batch: WindowBatch, stream: Stream) -> MaskedViews:
        """Augment each window and draw its mask."""
        chosen = self.settings
        inside = inside_scan(batch)
        spatial = sample_spatial(chosen.spatial, stream, shape=chosen.window, spacing_mm=batch.spacing_mm)
        target, marked = apply_spatial(batch.network_input(), spatial, labels=inside[:, 0].to(torch.int16))
        drawn = sample_intensity(chosen.intensity, stream, channels=batch.channels)
        target = apply_intensity(target, drawn, shown=batch.present, unit=batch.unit())
        hidden = sample_patch_mask(stream, shape=chosen.window, patch=self.patch, ratio=chosen.ratio)
        assert marked is not None
        counted = (marked > 0)[:, None]
        if batch.present is not None:
            counted = counted & batch.present[:, :, None, None, None]
        return MaskedViews(target=target, hidden=hidden.to(target.device), inside=counted)

    def forward(self, views: MaskedViews, progress: float) -> Losses:
        """Return the error in hidden patches."""
        error = self._error(self.reconstruct(views), views)
        return Losses(error, {"reconstruction": error.detach()}, terms={"reconstruction": error})

    def counted(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return how many hidden voxels count."""
        return {"reconstruction": (to_voxels(views.hidden, self.patch) & views.inside).sum()}

    def shown(self, views: MaskedViews) -> Tensor:
        """Return the windows with zeros in hidden patches, (B, C, z, y, x)."""
        return views.target.masked_fill(to_voxels(views.hidden, self.patch), 0.0)

    def _error(self, drawn: Tensor, views: MaskedViews) -> Tensor:
        return masked_reconstruction(
            drawn,
            views.target,
            views.hidden,
            patch=self.patch,
            normalise=self.settings.normalise,
            error=self.error,
            counted=views.inside,
        )

    def pictures(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return the windows before and after hiding."""
        return {"window": self.displayed(views.target), "shown": self.displayed(self.shown(views))}

    def probe(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return the error on scans that are not trained on, and whether the features of whole windows collapse."""
        pooled = self.encoder.embed(views.target)
        return {
            "reconstruction": self._error(self.reconstruct(views), views),
            "effective_rank": effective_rank(pooled),
        }

    def chance(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return the error of drawing each channel evenly, as the mean of what is shown; normalised patches as 0."""
        drawn = torch.zeros_like(views.target)
        if not self.settings.normalise:
            seen = (~to_voxels(views.hidden, self.patch) & views.inside).expand_as(views.target)
            total = views.target.masked_fill(~seen, 0.0).sum(dim=(2, 3, 4), keepdim=True)
            drawn = (total / seen.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1)).expand_as(views.target)
        return {"reconstruction": self._error(drawn, views)}


def inside_scan(batch: WindowBatch) -> Tensor:
    """Return which voxels of each window lie inside its scan, bool, (B, 1, z, y, x); padding does not."""
    marks = []
    for axis, length in enumerate(batch.values.shape[2:]):
        place = batch.origin[:, axis, None] + torch.arange(length, device=batch.origin.device)
        shape = [len(batch), 1, 1, 1, 1]
        shape[2 + axis] = length
        marks.append(((place >= 0) & (place < batch.extent[:, axis, None])).view(shape))
    return marks[0] & marks[1] & marks[2]
