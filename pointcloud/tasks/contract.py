"""What tasks on clouds share: a network that is kept whole, augmentation while training, numbers to places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medssl.methods.contract import Method
from medssl.randomness import Stream
from pointcloud.batch import CloudBatch
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.tasks.settings import CloudTaskSettings
from pointcloud.views.spatial import apply_spatial, sample_spatial

__all__ = ["CloudTask", "places_of"]


class CloudTask(Method):
    """A network around an encoder of clouds.

    Args:
        settings: Points, head and augmentation.
        network: Its ``encoder`` is the encoder.
    """

    name: ClassVar[str]

    def __init__(self, settings: CloudTaskSettings, network: nn.Module) -> None:
        super().__init__()
        self.settings, self.network = settings, network

    @property
    def encoder(self) -> CloudEncoder:  # type: ignore[override]
        """The encoder."""
        found = self.network.encoder
        assert isinstance(found, CloudEncoder)
        return found

    def exported_modules(self) -> dict[str, nn.Module]:
        """Keep the whole network."""
        return {"network": self.network}

    def augmented(self, batch: CloudBatch, stream: Stream, *, always: bool = False) -> tuple[Tensor, Tensor]:
        """Return points and counts as the network sees them, augmented while training or ``always``."""
        points, count = batch.network_input(), batch.count
        if not (self.training or always):
            return points, count
        return apply_spatial(points, count, sample_spatial(self.settings.spatial, stream, length=self.settings.points))

    def facts(self, *, start: str) -> dict[str, Any]:
        """Return what a card's ``method`` holds whatever the task."""
        return {"name": self.name, "settings": self.settings.model_dump(mode="json"), "start": start}


def places_of(numbers: Tensor, known: Sequence[int]) -> Tensor:
    """Return the place of each number among the known ones, -1 where it is not among them.

    Example:
        >>> places_of(torch.tensor([7, -1, 3]), [3, 7]).tolist()
        [1, -1, 0]
    """
    places = torch.full_like(numbers, -1)
    for place, number in enumerate(known):
        places[numbers == number] = place
    return places
