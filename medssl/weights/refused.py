"""Published weights that cannot be held here: how their files are told, why not, and the nearest that can."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medssl.table import Row, Table

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["REFUSED", "RefusedSource", "refused_by_name", "refused_by_tensors"]

_RESENC = "openmind-resenc (MR, z-score) or totalsegmentator (CT)"


@dataclass(frozen=True, kw_only=True)
class RefusedSource(Row):
    """One kind of published weights that is not taken.

    Attributes:
        title: What it is.
        why: What it has that no encoder here has.
        nearest: What to take instead, by names of the table of sources.
        told_by: Regular expression of a tensor's name that only such files hold; "" where another reader tells it.
        axes: How many axes that tensor has; 0 where its name says enough.
        other_names: What else it is called.
    """

    target: str = ""
    title: str
    why: str
    nearest: str
    told_by: str = ""
    axes: int = 0
    other_names: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What it is, why it is not taken, and the nearest that is, in one line."""
        return f"{self.title} is not taken: {self.why}. Nearest: {self.nearest}"


REFUSED = Table(
    "source of weights that is not taken",
    (
        RefusedSource(
            name="openmind-primus",
            title="OpenMind's Primus-M",
            why="it is a transformer with a rotary code of three axes and gated blocks, which no encoder here has",
            nearest="openmind-resenc, the ResEnc-L that the same method trained",
            told_by=r"(encoder\.)?eva\.blocks\.\d+\..+",
            other_names=("primus", "primus-m"),
        ),
        RefusedSource(
            name="ct-fm",
            title="CT-FM",
            why="it is a SegResNet with batch norms and strided convolutions between its levels, which no encoder "
            "here is",
            nearest="voco (CT, -175 to 250 HU) or totalsegmentator",
            told_by=r"(backbone\.|encoder\.)*layers\.\d+\.blocks\.\d+\.conv1\..+",
            other_names=("ctfm", "ct_fm"),
        ),
        RefusedSource(
            name="suprem-segresnet",
            title="SuPreM's SegResNet",
            why="it is a SegResNet with group norms before its convolutions, which no encoder here is",
            nearest="suprem-swin, of the same data",
            told_by=r"(backbone\.)?down_layers\.\d+\.\d+\..+",
            other_names=("segresnet",),
        ),
        RefusedSource(
            name="3dino",
            title="3DINO's ViT-L",
            why="its blocks see a class token that volumes' 'vit' has not",
            nearest="meddinov3 or dinov2 for slices, openmind-resenc for volumes",
            told_by=r"(backbone\.)?blocks\.\d+\.\d+\.attn\..+",
            other_names=("3dino-vit",),
        ),
        RefusedSource(
            name="medicalnet",
            title="MedicalNet's ResNets",
            why="they are 3D ResNets with batch norms, a max-pool and dilated stages, which no encoder here is",
            nearest=_RESENC,
            told_by=r"layer1\.0\.conv1\.weight",
            axes=5,
        ),
        RefusedSource(
            name="stu-net",
            title="STU-Net",
            why="its shortcuts are strided convolutions with a bias and no norm, which no encoder here has",
            nearest="totalsegmentator, trained on the same data",
            told_by=r"conv_blocks_context\.\d+\.\d+\.(conv1|conv3|norm1)\..+",
            other_names=("stunet",),
        ),
        RefusedSource(
            name="models-genesis",
            title="Models Genesis",
            why="it halves by max-pooling, and its batch norms take a batch's own statistics in use too",
            nearest="openmind-resenc of the method Models Genesis (MR), or voco (CT)",
            told_by=r"down_tr\d+\.ops\.\d+\..+",
            other_names=("genesis", "modelsgenesis"),
        ),
        RefusedSource(
            name="recon",
            title="ReCon",
            why="its blocks see three class tokens, and ours one at most",
            nearest="point-mae",
        ),
        RefusedSource(
            name="point-bert",
            title="Point-BERT",
            why="its blocks see a class token, and its tokens pass a reduction that 'point_vit' has not",
            nearest="point-mae or point-jepa",
            told_by=r"transformer_q\..+",
            other_names=("pointbert",),
        ),
    ),
)


def refused_by_name(name: str) -> RefusedSource | None:
    """Return the row that is called so; None where none is."""
    bare = name.lower()
    return next((row for row in REFUSED.values() if bare == row.name or bare in row.other_names), None)


def refused_by_tensors(state: Mapping[str, Tensor]) -> RefusedSource | None:
    """Return the row that tensors of such names are of; None where none is."""
    bare = {name.removeprefix("module."): tensor.ndim for name, tensor in state.items()}
    for row in REFUSED.values():
        for name, axes in bare.items():
            if row.told_by and re.fullmatch(row.told_by, name) and row.axes in (0, axes):
                return row
    return None
