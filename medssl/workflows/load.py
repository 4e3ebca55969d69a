"""``medssl.load``: the network of a run, ready to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medssl.domains.domain import domain_of_card
from medssl.engine.card import load_card
from medssl.workflows.taking import takes_places

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load"]


@takes_places
def load(run: str | Path) -> nn.Module:
    """Return what a run trained, in evaluation mode, on the CPU.

    Args:
        run: Folder of a run that has ended.

    Returns:
        The encoder of a pretraining run: images (B, C, z, y, x), scaled to [0, 1], to a pyramid of features; its
        ``embed`` gives one vector an image. The network of a fine-tuning run: the same images to logits (B, classes,
        z, y, x), of a classifier (B, classes), of which ``decision.json`` makes probabilities and a class,
        as ``medssl.load_model`` does. The encoder or network of a run on clouds: points (B, N, 3), about each cloud's
        mean and in its unit sphere, with ``count`` (B,), how many rows of each are points. ``card.json`` in the folder
        says at which voxel size and intensity scale.

    Raises:
        CheckpointError: Card or weights are missing or damaged, or do not fit each other.

    Example:
        >>> encoder = load("runs/ct")  # doctest: +SKIP
        >>> encoder.embed(images).shape  # doctest: +SKIP
        torch.Size([2, 64])
    """
    run = Path(run)
    card = load_card(run)
    domain, name = domain_of_card(card), str(card.method.get("name"))
    if name not in domain.tasks:
        return domain.encoder(run)
    network: nn.Module = domain.task(name).load(run).network.eval()
    return network
