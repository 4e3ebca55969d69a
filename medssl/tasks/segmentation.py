"""Segmentation as a method: labelled windows in, Dice and cross-entropy out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medssl.decoder import SegmentationNetwork, UNetDecoder
from medssl.encoders.contract import Encoder
from medssl.errors import ConfigError, DataError
from medssl.methods.contract import Losses, Method
from medssl.randomness import Stream
from medssl.regions import Region
from medssl.tasks.outputs import ClassOutput, Output, RegionOutput, membership
from medssl.tasks.segmentation_loss import DiceCrossEntropy, RegionDiceCrossEntropy
from medssl.tasks.settings.segmentation import SegmentationSettings
from medssl.views.intensity import apply_intensity, sample_intensity
from medssl.views.spatial import apply_spatial, sample_spatial
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["LabelTable", "SegmentationSettings", "SegmentationTask", "SegmentationViews"]


@dataclass(frozen=True)
class SegmentationViews:
    """Augmented windows: ``images`` float32 (B, C, z, y, x), ``labels`` int64 (B, z, y, x), classes or -1."""

    images: Tensor
    labels: Tensor


class LabelTable(nn.Module):
    """Structure numbers of a store to channels of the network, and back.

    Args:
        structures: Structure numbers that are segmented, without the background 0. Other numbers become background.

    Raises:
        DataError: If there is none, one is not positive, or one comes twice.
    """

    to_class: Tensor
    to_structure: Tensor

    def __init__(self, structures: Sequence[int]) -> None:
        super().__init__()
        numbers = sorted(structures)
        if not numbers or numbers[0] < 1 or len(set(numbers)) != len(numbers):
            raise DataError(
                f"A segmentation needs at least one structure, each a positive number of its own. Got {numbers}. "
                "Build the store from scans with label maps."
            )
        self.num_classes = len(numbers) + 1
        table = torch.zeros(numbers[-1] + 3, dtype=torch.int64)
        table[0] = -1  # the number -1 marks voxels without a label
        table[torch.tensor(numbers) + 1] = torch.arange(1, self.num_classes)
        self.register_buffer("to_class", table, persistent=False)
        self.register_buffer("to_structure", torch.tensor([0, *numbers]), persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the class of each structure number, int64, of the same shape; -1 stays -1."""
        return self.to_class[(numbers.long() + 1).clamp(0, self.to_class.numel() - 1)]


class SegmentationTask(Method):
    """A network that names the structure of every voxel, trained from windows of a store.

    Args:
        settings: Window, losses and augmentation.
        encoder: The encoder, pretrained or not.
        classes: Structure numbers of the store and their names; 0 is the background, named or not.
        regions: Unions of structures of the store; where there are some, they are segmented in place of structures.

    Raises:
        ConfigError: If the window does not fit the encoder, or a structure is asked for that the store has not.
        DataError: If there is no structure.
    """

    def __init__(
        self,
        settings: SegmentationSettings,
        encoder: Encoder,
        classes: Mapping[int, str],
        regions: Sequence[Region] = (),
    ) -> None:
        super().__init__()
        known = {number: name for number, name in sorted(classes.items()) if number > 0}
        chosen = tuple(known) if settings.structures is None else settings.structures
        _check(settings, encoder, known, chosen)
        self.settings = settings
        self.table = LabelTable(chosen)
        self.regions = _regions(settings, regions, sorted(chosen))
        self.class_names = tuple(r.name for r in self.regions) or tuple(known[number] for number in sorted(chosen))
        numbers = tuple(int(number) for number in self.table.to_structure)
        self.output: Output = RegionOutput(self.regions) if self.regions else ClassOutput(numbers)
        self.encoder: Encoder = encoder
        encoder.pooling.requires_grad_(False)  # labels of voxels have no use for the embedding
        self.decoder = UNetDecoder(
            encoder,
            len(self.regions) or self.table.num_classes,
            convs_per_stage=settings.convs_per_stage,
            deep_supervision=settings.deep_supervision,
        )
        found = ["Dice sums over a part (segmentation.batch_dice)"] if settings.batch_dice else []
        found += ["coarser stages weigh a part by its labels at full size"] if settings.deep_supervision else []
        self.coupled = "; ".join(found)
        weights = {"dice_weight": settings.dice_weight, "cross_entropy_weight": settings.cross_entropy_weight}
        self.members = membership(self.regions, numbers) if self.regions else None
        self.loss = (
            DiceCrossEntropy(**weights, batch_dice=settings.batch_dice)
            if self.members is None
            else RegionDiceCrossEntropy(self.members, **weights, batch_dice=settings.batch_dice)
        )

    @property
    def network(self) -> SegmentationNetwork:
        """Encoder and decoder as one network; its state is that of the task, key for key."""
        network = SegmentationNetwork(self.encoder, self.decoder)
        network.training = self.training  # its parts are in the task's mode already
        return network

    def exported_modules(self) -> dict[str, nn.Module]:
        """Keep the whole network."""
        return {"network": self.network}

    @property
    def plan(self) -> WindowPlan:
        """Windows with labels, a share of them around a structure."""
        return WindowPlan(
            size=self.settings.window,
            placement="foreground",
            foreground_share=self.settings.foreground_share,
            labels=True,
        )

    def views(self, batch: WindowBatch, stream: Stream) -> SegmentationViews:
        """Scale and augment the windows; labels move with the image, and only while training is anything changed.

        Raises:
            DataError: If the batch has no labels.
        """
        if batch.labels is None:
            raise DataError("A segmentation needs label windows, and the batch has none. Ask for them in the plan.")
        images, labels = batch.network_input(), batch.labels
        if self.training:
            spatial = sample_spatial(
                self.settings.spatial, stream, shape=self.settings.window, spacing_mm=batch.spacing_mm
            )
            images, moved = apply_spatial(images, spatial, labels=labels)
            labels = labels if moved is None else moved
            drawn = sample_intensity(self.settings.intensity, stream, channels=batch.channels)
            images = apply_intensity(images, drawn, shown=batch.shown(), unit=batch.unit())
        return SegmentationViews(images.contiguous(memory_format=torch.channels_last_3d), self.table(labels))

    def forward(self, views: SegmentationViews, progress: float) -> Losses:
        """Return the loss of the views, with its Dice and cross-entropy."""
        loss = self.loss(self.decoder(self.encoder(views.images), views.images), views.labels)
        return Losses(
            total=loss.total,
            parts={"dice": loss.dice, "cross_entropy": loss.cross_entropy},
            signals={"soft_dice": 1.0 - loss.dice},
            terms=loss.terms,
        )

    def shows(self, classes: Tensor, number: int) -> Tensor:
        """Return where labels show a structure or region; voxels without a label show nothing.

        Args:
            classes: Classes as ``table`` gives them.
            number: Place in ``class_names``, from 1.
        """
        if self.members is None:
            return classes == number
        return self.members.to(classes.device)[:, number - 1][classes.clamp(min=0)] & (classes >= 0)

    def counted(self, views: SegmentationViews) -> dict[str, Tensor]:
        """Return how many voxels have a label."""
        return {"cross_entropy": (views.labels >= 0).sum()}

    def pictures(self, views: SegmentationViews) -> dict[str, Tensor]:
        """Return the windows, and the windows with each voxel of a structure lit up."""
        images = self.displayed(views.images)
        shade = views.labels.clamp(min=0)[:, None].float() / (self.table.num_classes - 1)
        return {"windows": images, "labels": torch.where(shade > 0, 0.4 + 0.6 * shade, 0.4 * images)}

    @torch.no_grad()
    def probe(self, views: SegmentationViews) -> dict[str, Tensor]:
        """Return the mean hard Dice of the structures over the windows, and that of each."""
        logits = self.network(views.images)
        labelled = views.labels >= 0
        scores: dict[str, Tensor] = {}
        for number, name in enumerate(self.class_names, start=1):
            theirs = self.shows(views.labels, number)
            ours = (logits[:, number - 1] > 0 if self.regions else logits.argmax(dim=1) == number) & labelled
            volume = ours.sum() + theirs.sum()
            # neither shows it: right, as far as a window can tell; a score of NaN would spoil the run's means
            scores[f"dice_{name}"] = torch.where(volume > 0, 2.0 * (ours & theirs).sum() / volume.clamp(min=1), 1.0)
        return {"dice": torch.stack(list(scores.values())).mean(), **scores}


def _regions(settings: SegmentationSettings, known: Sequence[Region], chosen: Sequence[int]) -> tuple[Region, ...]:
    """Return the regions that are segmented; none where structures are."""
    wanted = settings.regions if settings.regions is not None else bool(known) and settings.structures is None
    if not wanted:
        return ()
    if not known:
        raise ConfigError("'regions' is true, and the store has none. Leave it out to segment single structures.")
    lacking = [region.name for region in known if not set(region.values) & set(chosen)]
    if lacking:
        raise ConfigError(
            f"'structures' leaves out every value of the regions {lacking}. Leave 'structures' out, or set "
            "segmentation.regions=false."
        )
    return tuple(known)


def _check(settings: SegmentationSettings, encoder: Encoder, known: Mapping[int, str], chosen: tuple[int, ...]) -> None:
    encoder.check_window(settings.window, key="segmentation.window")
    unknown = [number for number in chosen if number not in known]
    if unknown:
        listed = ", ".join(f"{number} ({name})" for number, name in known.items()) or "none"
        raise ConfigError(f"'structures' names {unknown}, which the store has not. It has: {listed}.")
