"""VoCo: learn where in the body a crop lies, by contrast with base crops of the same scan.

References:
    Wu, Zhuang, Chen, "VoCo: A Simple-yet-Effective Volume Contrastive Learning Framework for 3D Medical Image
    Analysis", CVPR 2024, arXiv:2402.17300; Wu, Zhuang, Chen, "Large-Scale 3D Medical Image Pre-training with
    Geometric Context Priors", 2024, arXiv:2410.09890 (version 2).

One implementation, four settings of it; each preset in ``configs/pretrain`` names its own.

=====================  ==============  ==============  ==============  ================
setting                paper           released v1     released v2     ours (default)
=====================  ==============  ==============  ==============  ================
teacher                none            network, 0.9    heads, 0.9      network, .99 -> 1
student sees           bases, crops    bases, crops    bases, crops    crops
both_directions        no              yes             no              no
positive / negative    all / -         overlap/square  overlap/log     overlap / log
regulariser            bases, power 1  bases, power 2  bases, power 2  distant crops, 2
inter                  none            none            student         teacher
by_scan                no              yes             yes             no
levels                 last            released        released        all
anchor                 window          window          window          body
feature_dropout        0               0               0.2             0
=====================  ==============  ==============  ==============  ================

The released losses are of each scan, then their mean (``by_scan``); ours pools the pairs of all scans, so that each
counts alike. Version 2 compares the student's crops with the student's base crops of the next scan; ours with the
teacher's, since its student sees no base crops. Both heads take 1152 features of Swin at width 48, all levels but the
second coarsest (``levels: released``); ours takes all, 1536. The presets of the paper and of both releases take AMSGrad
and no clip, as released (clipping stands there in a branch that mixed precision never enters).

Differs from the released code in all four: biases and norms do not decay; the teacher is copied from the student at the
start (v1 drew it anew) and follows it after the optimiser's step, not before the forward pass; the last legal crop
position can be drawn; dropout of v2 zeroes features, not whole crops; inter-volume contrast with one scan in the batch
is left out instead of being the scan with itself; z is drawn and labelled like the other axes wherever the grid has
more than one layer.

Ours lays the base crops over the body box instead of over the window, so that a base crop has the same meaning in
every scan of the same region, whatever air surrounds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.gathering import gathered, mean_of_all, number_of_all, own_of
from medssl.heads import Projection
from medssl.methods.contract import Losses, Method
from medssl.methods.fitting import Room
from medssl.methods.settings.voco import VoCoSettings
from medssl.objectives.diagnostics import effective_rank, feature_spread, knn_prediction
from medssl.objectives.position import base_regulariser, clamped_cosine, overlap_labels, position_loss
from medssl.randomness import Stream
from medssl.teacher import EMATeacher
from medssl.views.crops import body_region, cut, lattice_starts, random_starts
from medssl.views.intensity import apply_intensity, sample_intensity
from medssl.views.spatial import apply_spatial, sample_spatial
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["VoCo", "VoCoSettings", "VoCoViews"]


@dataclass(frozen=True)
class VoCoViews:
    """Crops and where they lie: B scans, R random crops, G base crops.

    Attributes:
        crops: (B, R, C, z, y, x).
        bases: (B, G, C, z, y, x).
        starts: First voxels of the crops in the window, (B, R, 3).
        base_starts: First voxels of the base crops in the window, (B, G, 3).
        labels: Overlaps, (B, R, G).
        spacing_mm: (B, 3).
    """

    crops: Tensor
    bases: Tensor
    starts: Tensor
    base_starts: Tensor
    labels: Tensor
    spacing_mm: Tensor


class _Embedder(nn.Module):
    """An encoder with a projection head: images (N, C, z, y, x) to features (N, projected)."""

    def __init__(self, encoder: Encoder, settings: VoCoSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.levels = settings.levels
        if settings.levels == "released" and encoder.pooling.kind == "levels":
            raise ValueError(
                "levels=released leaves the second coarsest level out, and encoder.pool=levels joins it all the same. "
                "Set method.levels to all, or encoder.pool to mean."
            )
        # How many of the finer levels join the embedding; none where the pooling has joined them.
        finer = {"last": 0, "all": len(encoder.channels) - 1, "released": len(encoder.channels) - 2}[settings.levels]
        self._joined = 0 if encoder.pooling.kind == "levels" else finer
        width = encoder.embedding_dim + sum(encoder.channels[: self._joined])
        self.head = Projection(width, settings.hidden, settings.projected)

    def pooled(self, images: Tensor) -> Tensor:
        """Return the pooled levels of the pyramid, (N, width)."""
        pyramid, pooled = self.encoder(images, pooled=True)
        finer = [level.float().mean(dim=(2, 3, 4)) for level in pyramid[: self._joined]]
        return torch.cat([*finer, pooled], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        projected: Tensor = self.head(self.pooled(images))
        return projected


class VoCo(Method):
    """Position contrast between random crops and base crops.

    Args:
        settings: See ``VoCoSettings``.
        encoder: What is pretrained; crops must fit its ``size_multiple``.

    Raises:
        ValueError: If the crop does not fit the encoder, the window does not hold a crop, or the encoder's embedding
            has the level that ``levels`` leaves out.
    """

    items_per_step = (4, 2)
    pools = True
    coupled = "crops meet the base crops of another scan of their part; means are over what overlaps within a part"

    def __init__(self, settings: VoCoSettings, encoder: Encoder) -> None:
        super().__init__()
        if any(c % m for c, m in zip(settings.crop, encoder.size_multiple, strict=True)):
            raise ValueError(f"The crop {settings.crop} must be a multiple of {encoder.size_multiple} (the encoder's).")
        if any(w < c for w, c in zip(settings.window_size, settings.crop, strict=True)):
            raise ValueError(f"The window {settings.window_size} is smaller than the crop {settings.crop}.")
        self.settings = settings
        self.student = _Embedder(encoder, settings)
        self.teacher: EMATeacher | None = None
        if settings.teacher != "none":
            self.teacher = EMATeacher(
                self.student if settings.teacher == "network" else self.student.head,
                momentum=settings.momentum,
                final_momentum=settings.final_momentum,
            )

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Twelve base crops and four random ones, each halved twice by the smallest encoder."""
        return {"crop": (8, 8, 8), "grid": (2, 3, 2), "random_crops": 4, "hidden": 32, "projected": 16}

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Take two base crops along an axis, three along the longest; one where a crop would be a slice or two."""
        grid = [
            1 if n < 16 or n < 2 * m else 3 if n == max(room.window) and n >= 6 * m else 2
            for n, m in zip(room.window, room.multiple, strict=True)
        ]
        crop = [n // (count * m) * m for n, m, count in zip(room.window, room.multiple, grid, strict=True)]
        return {"window": list(room.window), "crop": crop, "grid": grid}

    def check(self) -> None:
        """See that the encoder takes crops of this size."""
        self.encoder.check_size(self.settings.crop)

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.student.encoder

    @property
    def plan(self) -> WindowPlan:
        """One window a scan, wide enough for the grid."""
        placement = "body" if self.settings.anchor == "body" else "anywhere"
        return WindowPlan(size=self.settings.window_size, placement=placement)

    def views(self, batch: WindowBatch, stream: Stream) -> VoCoViews:
        """Cut base crops and random crops and augment each by itself."""
        chosen = self.settings
        windows = batch.network_input()
        size = chosen.window_size
        box = batch.body_box
        if chosen.anchor == "window":
            box = torch.stack([batch.origin, batch.origin + torch.tensor(size, device=box.device)], dim=1).float()
        region = body_region(batch.origin, box, size, chosen.crop)
        base_starts, pitch = lattice_starts(region, chosen.grid, chosen.crop)
        base_starts = base_starts.round()
        starts = random_starts(stream, base_starts[:, 0], base_starts[:, -1], chosen.random_crops)
        labels = overlap_labels(starts, base_starts, pitch)
        number = chosen.random_crops + base_starts.shape[1]
        crops = cut(windows, torch.cat([starts, base_starts], dim=1), chosen.crop).flatten(0, 1)
        spatial = sample_spatial(chosen.spatial, stream, shape=chosen.crop, count=number, spacing_mm=batch.spacing_mm)
        crops, _ = apply_spatial(crops, spatial)
        drawn = sample_intensity(chosen.intensity, stream, count=number, channels=batch.channels)
        crops = apply_intensity(crops, drawn, shown=batch.shown(number), unit=batch.unit(number))
        crops = crops.view(len(batch), number, *crops.shape[1:])
        return VoCoViews(
            crops=crops[:, : chosen.random_crops],
            bases=crops[:, chosen.random_crops :],
            starts=starts,
            base_starts=base_starts,
            labels=labels,
            spacing_mm=batch.spacing_mm,
        )

    def forward(self, views: VoCoViews, progress: float) -> Losses:
        """Return the loss of the positions within and between scans, and of the regulariser."""
        chosen = self.settings
        student, teacher = self._features(views)
        crops, bases = student["crops"], teacher["bases"]
        similarity = clamped_cosine(crops, bases)
        if chosen.both_directions and "crops" in teacher:
            similarity = (similarity + clamped_cosine(teacher["crops"], student["bases"])) / 2
        pos, neg = position_loss(
            similarity, views.labels, positive=chosen.positive, negative=chosen.negative, by_scan=chosen.by_scan
        )
        parts = {"position": pos, "apart": neg}
        if chosen.inter != "none" and number_of_all(len(crops), crops.device) > 1:
            parts["inter"] = self._inter(student, teacher, views.labels)
        if chosen.regulariser != "none":
            parts["regulariser"] = self._regulariser(student, views)
        total = torch.stack(list(parts.values())).sum()
        detached = crops.detach().flatten(0, 1)
        right = similarity.detach().argmax(dim=2) == views.labels.argmax(dim=2)
        signals = {"position_accuracy": mean_of_all(right.float()), "spread": feature_spread(detached, over_all=True)}
        return Losses(total, {name: part.detach() for name, part in parts.items()}, signals)

    def _features(self, views: VoCoViews) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Project the crops that the settings ask for through student and teacher, each network once."""
        chosen = self.settings
        batch, crops, bases = views.crops.shape[0], views.crops.shape[1], views.bases.shape[1]
        student_bases = chosen.student_bases or chosen.teacher != "network" or chosen.inter == "student"
        stacked = torch.cat([views.crops, views.bases], dim=1) if student_bases else views.crops
        images = stacked.flatten(0, 1)
        pooled = self.student.pooled(images)
        features = pooled
        if chosen.feature_dropout > 0:
            features = F.dropout(features, chosen.feature_dropout, self.training)
        student = self._split(self.student.head(features), batch, crops)
        if self.teacher is None:
            return student, {name: value.detach() if name == "bases" else value for name, value in student.items()}
        with torch.no_grad():
            if chosen.teacher == "heads":
                return student, self._split(self.teacher(pooled.detach()), batch, crops)
            if chosen.both_directions or chosen.inter in ("teacher", "student"):
                every = torch.cat([views.crops, views.bases], dim=1).flatten(0, 1)
                return student, self._split(self.teacher(every), batch, crops)
            seen = self.teacher(views.bases.flatten(0, 1))
            return student, {"bases": seen.view(batch, bases, -1)}

    @staticmethod
    def _split(features: Tensor, batch: int, crops: int) -> dict[str, Tensor]:
        by_scan = features.view(batch, -1, features.shape[-1])
        split = {"crops": by_scan[:, :crops]}
        if by_scan.shape[1] > crops:
            split["bases"] = by_scan[:, crops:]
        return split

    def _inter(self, student: dict[str, Tensor], teacher: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Contrast each scan's crops with the base crops of the next scan in the whole batch."""
        chosen, crops = self.settings, student["crops"]
        others = self._of_next(teacher["bases"], len(crops))
        compared = self._of_next(student["bases"], len(crops)) if chosen.inter == "student" else others
        similarity = clamped_cosine(crops, compared)
        target = labels
        if chosen.inter != "position":
            target = clamped_cosine(teacher["crops"], others).detach()
        pos, neg = position_loss(
            similarity, target, positive="overlap", negative=chosen.negative, by_scan=chosen.by_scan
        )
        return pos + neg

    def _of_next(self, bases: Tensor, rows: int) -> Tensor:
        """Return the base crops of the next scan of the whole batch, for each of this process."""
        block = self.rows_per_item
        return own_of(gathered(bases, block=block).roll(-1, dims=0), rows, block=block)

    def _regulariser(self, student: dict[str, Tensor], views: VoCoViews) -> Tensor:
        power = self.settings.regulariser_power
        if self.settings.regulariser == "bases":
            return base_regulariser(student["bases"], power=power, detach_second=power == 2)
        size = torch.tensor(self.settings.crop, device=views.starts.device)
        distance = (views.starts[:, :, None] - views.starts[:, None]).abs() / size
        apart = (distance >= 1.0).any(dim=-1)
        return base_regulariser(student["crops"], apart_BGG=apart, power=power, detach_second=False)

    def after_step(self, progress: float) -> None:
        """Move the teacher towards the student."""
        if self.teacher is not None:
            student = self.student if self.settings.teacher == "network" else self.student.head
            self.teacher.update(student, progress)

    def pictures(self, views: VoCoViews) -> dict[str, Tensor]:
        """Return the first scans' base crops and random crops."""
        return {"base crops": self.displayed(views.bases[0]), "random crops": self.displayed(views.crops[0])}

    def probe(self, views: VoCoViews) -> dict[str, Tensor]:
        """Return how well position is read from features, on scans that are not trained on.

        The predicted place of a crop is the mean of the base crops' places weighted by similarity. The kNN probe
        predicts it from the nearest crops of the other scans instead, by the encoder's features alone, as a share of
        the lattice's extent; its error is given in mm of the crop's own scan.
        """
        batch, number = views.crops.shape[:2]
        images = torch.cat([views.crops, views.bases], dim=1).flatten(0, 1)
        pooled = self.student.pooled(images)
        features = self._split(self.student.head(pooled), batch, number)
        similarity = clamped_cosine(features["crops"], features["bases"])
        weight = similarity / similarity.sum(dim=2, keepdim=True).clamp(min=1e-6)
        predicted = torch.einsum("brg,bgc->brc", weight, views.base_starts)
        error = ((predicted - views.starts) * views.spacing_mm[:, None]).norm(dim=-1)
        right = similarity.argmax(dim=2) == views.labels.argmax(dim=2)
        measured = {
            "position_accuracy": right.float().mean(),
            "position_error_mm": error.mean(),
            "spread": feature_spread(features["crops"].flatten(0, 1)),
            "effective_rank": effective_rank(pooled),
        }
        if batch > 1:
            first = views.base_starts[:, :1]
            extent = (views.base_starts[:, -1:] - first).clamp(min=1.0)
            share = ((views.starts - first) / extent).flatten(0, 1)
            scan = torch.arange(batch, device=share.device).repeat_interleave(number)
            features_ND = pooled.view(batch, -1, pooled.shape[-1])[:, :number].flatten(0, 1)
            miss = (knn_prediction(features_ND, share, scan) - share).view(batch, number, 3)
            measured["knn_error_mm"] = (miss * extent * views.spacing_mm[:, None]).norm(dim=-1).mean()
        return measured

    def chance(self, views: VoCoViews) -> dict[str, Tensor]:
        """Return the errors of always answering the lattice's centre, and the share that is right by guessing."""
        centre = (views.base_starts[:, :1] + views.base_starts[:, -1:]) / 2
        error = ((centre - views.starts) * views.spacing_mm[:, None]).norm(dim=-1).mean()
        guessed = {"position_accuracy": error.new_tensor(1.0 / views.base_starts.shape[1]), "position_error_mm": error}
        return guessed | ({"knn_error_mm": error} if len(views.crops) > 1 else {})
