"""One vector a cloud: what an encoder makes of it, for probes, retrieval and maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medssl.domains.draws import POINT_DRAWS
from medssl.engine.card import fill_encoder, load_card
from medssl.errors import CheckpointError
from pointcloud.batch import CloudBatch, CloudPlan
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.loading import each_cloud
from pointcloud.store import CloudStore

__all__ = ["Drawn", "drawing_words", "embed_clouds", "embed_drawn", "load_cloud_encoder"]


@dataclass(frozen=True)
class Drawn:
    """Vectors of clouds, each the mean over draws of its points.

    Attributes:
        vectors: float32, (clouds, embedding_dim).
        draws: Draws of each cloud; 1 where every cloud is taken whole.
        share: What drawing does: the variance of a cloud's vectors over draws as a share of that between clouds; None
            where there is one draw.
    """

    vectors: npt.NDArray[np.float32]
    draws: int
    share: float | None


def embed_drawn(
    encoder: CloudEncoder,
    store: CloudStore,
    plan: CloudPlan,
    *,
    batch_size: int,
    seed: int = 0,
    draws: int = POINT_DRAWS,
    times: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Drawn]:
    """Return the vectors of all clouds of a store, in its order, each the mean over draws of its points.

    A cloud's vector does not change with what lies beside it: its points are drawn by its id.

    Args:
        encoder: In evaluation mode, on its device.
        store: The clouds.
        plan: How many points of each.
        batch_size: Clouds that go through the encoder at once.
        seed: Of the draws.
        draws: How many; one is enough where no cloud has more points than are taken.
        times: How many such means, each of draws of its own; the first is the same however many are asked.
        progress: Told how many clouds are done after each batch, in the last draw of all.

    Returns:
        As many as ``times``; one where no cloud has more points than are taken.
    """
    taken_whole = plan.points is None or all(entry.points <= plan.points for entry in store.entries)
    number, times = (1, 1) if taken_whole else (draws, times)
    found = []
    for draw in range(number * times):
        parts = []
        for batch in each_cloud(store, plan, batch_size, seed, draw=draw):
            parts.append(embed_clouds(encoder, [batch]))
            if draw == number * times - 1:
                progress(len(batch))
        found.append(np.concatenate(parts))
    return [_mean_of(found[first : first + number]) for first in range(0, len(found), number)]


def _mean_of(found: Sequence[npt.NDArray[np.float32]]) -> Drawn:
    number = len(found)
    stacked = np.stack(found).astype(np.float64)
    mean = stacked.mean(axis=0)
    share = None
    if number > 1 and len(mean) > 1:
        between = float(((mean - mean.mean(axis=0)) ** 2).sum(axis=1).mean())
        within = float(stacked.var(axis=0, ddof=1).sum(axis=1).mean())
        share = within / between if between > 0 else None
    return Drawn(mean.astype(np.float32), number, share)


def drawing_words(drawn: Drawn) -> str:
    """Return what drawing points did to vectors, in words; "" where nothing was drawn twice."""
    if drawn.draws == 1:
        return ""
    told = (
        ""
        if drawn.share is None
        else (
            f"; over draws a cloud's vectors vary by {drawn.share:.1%} of the variance between clouds, and their mean "
            f"by {drawn.share / drawn.draws:.1%}"
        )
    )
    return f"vectors are means over {drawn.draws} draws of a cloud's points, by its id{told}"


@torch.no_grad()
def embed_clouds(encoder: CloudEncoder, batches: Iterable[CloudBatch]) -> npt.NDArray[np.float32]:
    """Return the vectors of clouds, float32 (clouds, embedding_dim), in the order of the batches.

    Args:
        encoder: In evaluation mode, on its device.
        batches: As from ``held_out_clouds``, which takes the same points of a cloud at every call.
    """
    device = next(encoder.parameters()).device
    parts = []
    for batch in batches:
        there = batch.to(device)
        parts.append(encoder.embed(there.network_input(), there.count).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, encoder.embedding_dim), np.float32)


def load_cloud_encoder(folder: str | Path) -> CloudEncoder:
    """Build a run's encoder of clouds with its trained weights, in evaluation mode, on the CPU.

    Args:
        folder: A run that has ended.

    Raises:
        CheckpointError: Card or weights are missing or damaged, do not fit each other, or are of volumes.
        ConfigError: The card names an encoder that this version does not know.
    """
    folder = Path(folder)
    card = load_card(folder)
    if card.kind != "cloud":
        raise CheckpointError(f"{folder}: its encoder is one of {card.kind}s, and clouds need one of clouds.")
    encoder: CloudEncoder = CLOUD_ENCODERS.build(card.encoder)
    fill_encoder(encoder, folder)
    return encoder.eval()
