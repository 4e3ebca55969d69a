"""Classification as a method: scans, slices or sets of slices in, one class out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.errors import DataError
from medssl.gathering import mean_of_all
from medssl.heads import AttentionPooling, standardised
from medssl.methods.contract import Losses, Method
from medssl.randomness import Stream
from medssl.tasks.class_loading import ClassBatch
from medssl.tasks.class_settings import ClassificationSettings
from medssl.views.intensity import apply_intensity, sample_intensity
from medssl.views.spatial import apply_spatial, sample_spatial
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["ClassViews", "ClassificationTask", "Classifier"]


@dataclass(frozen=True)
class ClassViews:
    """``images`` float32 (B * K, C, z, y, x), K windows an item; ``target`` int64 (B,)."""

    images: Tensor
    target: Tensor


class Classifier(nn.Module):
    """Encoder, pooling over the windows of an item, and a linear layer.

    Args:
        encoder: The encoder.
        classes: Number of classes.
        settings: Head and level.
    """

    def __init__(self, encoder: Encoder, classes: int, settings: ClassificationSettings) -> None:
        super().__init__()
        dim = encoder.embedding_dim
        self.encoder: Encoder = encoder
        self.norm = nn.BatchNorm1d(dim, affine=False) if settings.feature_norm else None
        self.pooling = AttentionPooling(dim, settings.attention) if settings.level == "set" else None
        self.dropout = nn.Dropout(settings.dropout)
        self.linear = nn.Linear(dim, classes)
        self.frozen = settings.frozen
        if self.frozen:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor, per_item: int = 1) -> Tensor:
        """Return logits (B, classes), float32, of images (B * per_item, C, z, y, x)."""
        return self.explained(images, per_item)[0]

    def explained(self, images: Tensor, per_item: int = 1) -> tuple[Tensor, Tensor]:
        """Return logits, and how much each of an item's windows gave, (B, per_item), summing to 1."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.encoder.embed(images).float()
        with torch.autocast(device_type=features.device.type, enabled=False):
            if self.norm is not None:
                features = standardised(self.norm, features)
            instances = features.view(-1, per_item, features.shape[1])
            if self.pooling is not None:
                pooled, weights = self.pooling(instances)
            else:
                pooled = instances.mean(dim=1)
                weights = torch.full(instances.shape[:2], 1.0 / per_item, device=features.device)
            return self.linear(self.dropout(pooled)), weights


class ClassificationTask(Method):
    """A network that names the class of a scan or a slice, trained from windows of a store.

    Args:
        settings: Level, window, head and augmentation.
        encoder: The encoder, pretrained or not.
        classes: Names of the classes.
        weights: Weight of each class in the loss; all 1 when None.

    Raises:
        ConfigError: If the window does not fit the encoder.
    """

    weight: Tensor

    def __init__(
        self,
        settings: ClassificationSettings,
        encoder: Encoder,
        classes: Sequence[str],
        *,
        weights: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__()
        encoder.check_window(settings.window, key="classification.window")
        self.settings, self.class_names = settings, tuple(classes)
        self.network = Classifier(encoder, len(self.class_names), settings)
        given = [1.0 if weights is None else weights[number] for number in range(len(self.class_names))]
        self.register_buffer("weight", torch.tensor(given), persistent=False)
        turn = settings.spatial.rotate_degrees
        flat = settings.window[0] == 1  # a slice turns in its own plane alone
        self._spatial = settings.spatial.model_copy(update={"rotate_degrees": (turn[0], 0.0, 0.0)} if flat else {})

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder."""
        return self.network.encoder

    def exported_modules(self) -> dict[str, nn.Module]:
        """Keep the whole network."""
        return {"network": self.network}

    @property
    def plan(self) -> WindowPlan:
        """Windows of the network's size; `class_loading` says where they lie."""
        return WindowPlan(size=self.settings.window)

    def views(self, batch: WindowBatch, stream: Stream) -> ClassViews:
        """Scale the windows, and augment them while training.

        Raises:
            DataError: If the batch holds no classes.
        """
        if not isinstance(batch, ClassBatch):
            raise DataError("A classifier needs windows with classes. Take them from a ClassLoader.")
        per_item = batch.values.shape[1]
        images = batch.network_input().flatten(0, 1)
        if self.training:
            spatial = sample_spatial(
                self._spatial, stream, shape=self.settings.window, count=per_item, spacing_mm=batch.spacing_mm
            )
            images, _ = apply_spatial(images, spatial)
            drawn = sample_intensity(self.settings.intensity, stream, count=per_item, channels=batch.channels)
            images = apply_intensity(images, drawn, shown=batch.shown(per_item), unit=batch.unit(per_item))
        return ClassViews(images.contiguous(memory_format=torch.channels_last_3d), batch.target)

    def forward(self, views: ClassViews, progress: float) -> Losses:
        """Return the weighted cross-entropy of the views, averaged over items (not over their weights)."""
        logits = self.network(views.images, len(views.images) // len(views.target))
        each = F.cross_entropy(logits, views.target, reduction="none")
        total = mean_of_all(each * self.weight[views.target])
        right = mean_of_all((logits.detach().argmax(dim=1) == views.target).float())
        return Losses(total=total, parts={"cross_entropy": total.detach()}, signals={"accuracy": right})

    def pictures(self, views: ClassViews) -> dict[str, Tensor]:
        """Return the windows."""
        return {"windows": self.displayed(views.images)}

    @torch.no_grad()
    def probe(self, views: ClassViews) -> dict[str, Tensor]:
        """Return accuracy and unweighted cross-entropy."""
        logits = self.network(views.images, len(views.images) // len(views.target))
        right = (logits.argmax(dim=1) == views.target).float().mean()
        return {"accuracy": right, "cross_entropy": F.cross_entropy(logits, views.target)}

    def described(self, *, start: str) -> dict[str, Any]:
        """Return what a card's ``method`` holds of a classifier that started from the weights of run ``start``."""
        return {
            "name": "classification",
            "settings": self.settings.model_dump(mode="json"),
            "classes": list(self.class_names),
            "start": start,
        }
