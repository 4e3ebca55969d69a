"""Distillation over prototypes: Sinkhorn assignments, SwAV's swapped prediction, DINO's and iBOT's cross-entropy.

N rows, K prototypes, S student views, T teacher views. Nothing here knows what a row is: an image, a volume, a cloud
or a patch.

References:
    Cuturi, "Sinkhorn distances", NeurIPS 2013, arXiv:1306.0895; Caron et al., "Unsupervised learning of visual features
    by contrasting cluster assignments" (SwAV), NeurIPS 2020, arXiv:2006.09882; Caron et al., "Emerging properties in
    self-supervised vision transformers" (DINO), ICCV 2021, arXiv:2104.14294; Zhou et al., "iBOT", ICLR 2022,
    arXiv:2111.07832; Rao et al., "Global-local bidirectional reasoning for unsupervised representation learning of 3D
    point clouds" (PointGLR), CVPR 2020, arXiv:2003.12971 (the N-pair term).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from medssl.gathering import added, number_of_all, ratio

__all__ = ["Centre", "distillation", "n_pair", "patch_distillation", "sharpened", "sinkhorn", "warmed_up"]


@torch.no_grad()
def sinkhorn(scores_NK: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Return soft assignments that use every prototype equally: rows sum to 1, columns to about N / K; float32.

    Computed on logarithms, so that scores of any size (also of cosines in half precision) overflow nothing.

    Args:
        scores_NK: Similarities of rows with prototypes, (N, K).
        epsilon: Smoothness; the smaller, the nearer to one prototype a row.
        iterations: Alternations; the last one normalises rows.
    """
    with torch.autocast(scores_NK.device.type, enabled=False):
        logs = scores_NK.float() / epsilon
        rows, prototypes = logs.shape
        for _ in range(iterations):
            logs = logs - torch.logsumexp(logs, dim=0, keepdim=True) - math.log(prototypes)
            logs = logs - torch.logsumexp(logs, dim=1, keepdim=True) - math.log(rows)
        return torch.softmax(logs, dim=1)


@torch.no_grad()
def sharpened(logits_NK: Tensor, centre_K: Tensor, *, temperature: float) -> Tensor:
    """Return a teacher's probabilities: softmax((logits - centre) / temperature), float32, (..., K)."""
    with torch.autocast(logits_NK.device.type, enabled=False):
        return torch.softmax((logits_NK.float() - centre_K.float()) / temperature, dim=-1)


def distillation(
    student_SNK: Tensor, teacher_TNK: Tensor, *, temperature: float = 0.1, skip_same: bool = True
) -> Tensor:
    """Return the cross-entropy of every student view against every teacher view, mean over pairs and all rows.

    Rows are those of all processes; none sees another's scores, only their sums.

    Args:
        student_SNK: Logits of the student, (S, N, K).
        teacher_TNK: Probabilities of the teacher, (T, N, K); detached here.
        temperature: Of the student.
        skip_same: Whether student view i and teacher view i are the same image, which is no task: the first T views
            of the student must then be those of the teacher. Needs S > 1 or T > 1.

    Raises:
        ValueError: If no pair is left.
    """
    students, teachers = student_SNK.shape[0], teacher_TNK.shape[0]
    with torch.autocast(student_SNK.device.type, enabled=False):
        logs = torch.log_softmax(student_SNK.float() / temperature, dim=-1)
        rows = number_of_all(student_SNK.shape[1], logs.device)
        loss_ST = added(-torch.einsum("tnk,snk->st", teacher_TNK.detach().float(), logs)) / rows
        pairs = torch.ones(students, teachers, dtype=torch.bool, device=loss_ST.device)
        if skip_same:
            pairs.fill_diagonal_(False)
        number = students * teachers - (min(students, teachers) if skip_same else 0)
        if number < 1:
            raise ValueError(f"{students} student and {teachers} teacher views leave no pair. Give the student more.")
        return (loss_ST * pairs).sum() / number


def n_pair(
    student_SNK: Tensor, teacher_TNK: Tensor, *, scale: float = 640.0, counted_NN: Tensor | None = None
) -> Tensor:
    """Return the contrast of teacher and student: of all clouds (or images) of a batch, which is this one?

    With teacher probabilities p and student logits h, the score of item i with item j is ``scale * p_i . h_j`` for each
    pair of a teacher's and a student's view, and the loss is the cross-entropy of i's scores with i. Pairs of the same
    view count too, as published: unlike in `distillation` they are told from other items, not merely matched.

    Args:
        student_SNK: Logits of the student, (S, N, K).
        teacher_TNK: Probabilities of the teacher, (T, N, K); detached here.
        scale: One over the temperature; 640 in the authors' code, which divides the student's logits by its temperature
            of 0.1 and then multiplies by 64.
        counted_NN: Which items count as negatives of which, bool, (N, N); None counts all. See `infonce.countable`.

    Returns:
        Scalar, float32: mean over anchors and pairs of views; 0 where no negative counts.
    """
    with torch.autocast(student_SNK.device.type, enabled=False):
        scores = scale * torch.einsum("tik,sjk->tsij", teacher_TNK.detach().float(), student_SNK.float())
        if counted_NN is not None:
            itself = torch.eye(len(counted_NN), dtype=torch.bool, device=scores.device)
            scores = scores.masked_fill(~(counted_NN | itself), float("-inf"))
        return (scores.logsumexp(dim=-1) - scores.diagonal(dim1=-2, dim2=-1)).mean()


def patch_distillation(
    student_BLK: Tensor,
    teacher_BLK: Tensor,
    masked_BL: Tensor,
    *,
    temperature: float = 0.1,
    over: Literal["all", "masked"] = "all",
) -> Tensor:
    """Return iBOT's cross-entropy at masked patches: mean over an image's masked patches, then over images.

    Args:
        student_BLK: Logits at all patches of the masked image, (B, L, K); flatten space first.
        teacher_BLK: Probabilities at the same patches of the whole image, (B, L, K); detached here.
        masked_BL: Which patches were masked, bool, (B, L).
        temperature: Of the student.
        over: The images of the mean: "all", as published, where one without a masked patch counts as 0; or "masked".

    Returns:
        Scalar, float32; 0 where nothing was masked.
    """
    if masked_BL.dim() != 2 or masked_BL.shape != student_BLK.shape[:2]:
        raise ValueError(
            f"masked must be (B, L) = {tuple(student_BLK.shape[:2])}, with space flattened. "
            f"Got {tuple(masked_BL.shape)}."
        )
    with torch.autocast(student_BLK.device.type, enabled=False):
        logs = torch.log_softmax(student_BLK.float() / temperature, dim=-1)
        loss_BL = -(teacher_BLK.detach().float() * logs).sum(dim=-1)
        masked = masked_BL.float()
        by_image = (loss_BL * masked).sum(dim=1) / masked.sum(dim=1).clamp(min=1.0)
        some = torch.ones_like(by_image) if over == "all" else (masked.sum(dim=1) > 0).float()
        return ratio((by_image * some).sum(), some.sum())


class Centre(nn.Module):
    """The running mean of a teacher's logits, subtracted before the softmax so that no prototype wins everywhere.

    It moves only in training and only when told to, after the optimiser's step; it is a buffer, so a resumed run goes
    on with it.

    Args:
        prototypes: K.
        momentum: Of the mean; 0.9 in DINO.
    """

    value: Tensor
    pending: Tensor

    def __init__(self, prototypes: int, *, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(prototypes))
        self.register_buffer("pending", torch.zeros(prototypes), persistent=False)
        self._seen: int | Tensor = 0  # rows, of all processes

    @torch.no_grad()
    def see(self, logits_NK: Tensor) -> None:
        """Note the teacher's logits, (..., K), as often as a step sees any; every row weighs the same."""
        if not self.training:
            return
        rows = logits_NK.float().flatten(0, -2)
        self.pending += added(rows.sum(dim=0))
        self._seen = self._seen + number_of_all(len(rows), rows.device)

    @torch.no_grad()
    def move(self) -> None:
        """Move towards what was seen since the last call."""
        if self._seen:
            self.value.lerp_(self.pending / self._seen, 1.0 - self.momentum)
            self.pending.zero_()
            self._seen = 0


def warmed_up(progress: float, *, start: float, end: float, share: float) -> float:
    """Return a value that rises (or falls) linearly from ``start`` to ``end`` over the first ``share`` of a run.

    Example:
        >>> warmed_up(0.05, start=0.04, end=0.08, share=0.1), warmed_up(0.5, start=0.04, end=0.08, share=0.1)
        (0.06, 0.08)
    """
    if share <= 0 or progress >= share:
        return end
    return start + (end - start) * progress / share
