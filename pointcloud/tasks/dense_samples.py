"""Clouds seen point by point: what is known of their points, and what an encoder or their surface says of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from medssl.domains.dense import Sample, Values
from medssl.errors import DataError
from pointcloud.batch import CloudPlan
from pointcloud.encoders.contract import CloudEncoder, CloudFeatures
from pointcloud.loading import each_cloud
from pointcloud.primitives.neighbours import nearest
from pointcloud.store import CloudEntry, CloudStore

if TYPE_CHECKING:
    from medssl.engine.card import Card

__all__ = ["CloudPlaces", "cloud_places", "surface_features"]

_NEAR = (8, 16, 32)


@dataclass(frozen=True)
class CloudPlaces:
    """Points of a store of clouds; parts are structures, and there is no background. See `medssl.domains.dense.Dense`.

    Attributes:
        names: The parts, by their number in the store plus one.
        points: Points taken of each cloud; None: all.
        seed: Of the points.
    """

    names: Mapping[int, str]
    points: int | None
    seed: int = 0
    place = "point"
    partial = False
    registered = None

    @property
    def seen(self) -> str:
        """How clouds are looked at."""
        return f"{self.points or 'all'} points of each cloud"

    def class_of(self, entry: CloudEntry) -> str | None:
        """Return "" where points have labels."""
        return None if entry.label_file is None else ""

    def shown(self, store: CloudStore, index: int) -> frozenset[int] | None:
        """Return the parts that a cloud shows."""
        found = frozenset((np.unique(store.labels(index)) + 1).tolist()) & self.names.keys()
        return found or None

    def classes(self, store: CloudStore, target: str) -> dict[str, str]:
        """Return the classes of the clouds themselves."""
        return {entry.id: str(entry.label) for entry in store.entries if entry.label is not None}

    def size(self, entry: CloudEntry, places: int) -> float:
        """Return the share of a point: clouds hold as many points as they were sampled with."""
        return 1 / places

    def samples(self, store: CloudStore, index: int, card: Card) -> Iterator[Sample]:
        """Return a cloud as one sample."""
        entry = store.entries[index]
        plan = CloudPlan(points=self.points, labels=entry.label_file is not None)
        (batch,) = each_cloud(store.subset([entry.id]), plan, 1, self.seed)
        points = batch.network_input()
        labels = np.full(points.shape[1], -1) if batch.labels is None else batch.labels[0].numpy() + 1
        yield Sample(
            item=entry.id,
            patient=entry.patient or entry.id,
            labels=np.where(np.isin(labels, list(self.names)), labels, -1).astype(np.int64),
            position=points[0].numpy(),
            place_mm=batch.points[0].numpy(),
            shape=(points.shape[1],),
            inputs=(points, batch.count),
        )

    def plain(self, sample: Sample) -> Values:
        """Return the shape of the surface at several scales."""
        return surface_features(sample.position)

    @torch.no_grad()
    def pyramid(self, encoder: nn.Module, sample: Sample) -> CloudFeatures:
        """Return the levels."""
        assert isinstance(encoder, CloudEncoder)
        device = next(encoder.parameters()).device
        points, count = sample.inputs
        return encoder(points.to(device), count.to(device))  # type: ignore[no-any-return]

    def at(self, pyramid: Any, sample: Sample, rows: npt.NDArray[np.int64]) -> Sequence[Values]:
        """Return every level at some points: the mean of its three nearest places, weighted by inverse square distance.

        Reference:
            Qi et al., "PointNet++", NeurIPS 2017, arXiv:1706.02413, equation 2.
        """
        queries = torch.from_numpy(sample.position[rows])[None]
        found = []
        for level in pyramid.levels:
            count = int(level.count[0])
            there = nearest(queries, level.places[:, :count].cpu(), min(3, count))
            weight = 1 / (there.distances**2 + 1e-8)
            near = level.features[0, :count].float().cpu()[there.indices[0]]
            share = (weight / weight.sum(dim=-1, keepdim=True))[0, ..., None].float()
            found.append((near * share).sum(dim=1).numpy())
        return found


def surface_features(points_N3: Values) -> Values:
    """Return the shape of a cloud about each point, at three scales.

    Args:
        points_N3: In the unit sphere.

    Returns:
        float32, (N, 15): of 8, 16 and 32 nearest points each the roots of the eigenvalues of their spread, the largest
        first; how far the point lies from their middle; and the share of the smallest eigenvalue.
    """
    points = torch.from_numpy(np.asarray(points_N3, np.float32))[None]
    found = []
    for k in _NEAR:
        near = nearest(points, points, min(k, points.shape[1]))
        there = points[0][near.indices[0]].double()
        middle = there.mean(dim=1)
        apart = there - middle[:, None]
        spread = torch.linalg.eigvalsh(apart.transpose(1, 2) @ apart / apart.shape[1]).clamp(min=0).flip(-1)
        distance = (points[0].double() - middle).norm(dim=-1, keepdim=True)
        share = spread[:, 2:] / (spread.sum(dim=1, keepdim=True) + 1e-12)
        found.append(torch.cat([spread.sqrt(), distance, share], dim=1))
    return torch.cat(found, dim=1).float().numpy()


def cloud_places(store: CloudStore, points: int | None, seed: int) -> CloudPlaces:
    """Return the points of a store of clouds.

    Raises:
        DataError: Its points have no labels.
    """
    if not store.parts:
        raise DataError(f"{store.folder}: the points of its clouds have no labels, which a dense probe reads.")
    return CloudPlaces({number + 1: name for number, name in sorted(store.parts.items())}, points, seed)
