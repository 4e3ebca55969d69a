"""One vector a cloud: what an encoder makes of it, for probes, retrieval and maps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medssl.engine.card import fill_encoder, load_card
from medssl.errors import CheckpointError
from pointcloud.batch import CloudBatch
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.table import CLOUD_ENCODERS

__all__ = ["embed_clouds", "load_cloud_encoder"]


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
