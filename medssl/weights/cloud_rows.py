"""The published weights of clouds: one row each, with licence, input and what proves it."""

from __future__ import annotations

from medssl.weights.source import HUB, MIT, Licence, Source

__all__ = ["CLOUDS"]

_CLOUDS = "tests/oracles/test_published_clouds.py: the makers' network, written from its description"
_SPHERE = "1,024 points about their mean, in the unit sphere"

CLOUDS: tuple[Source, ...] = (
    Source(
        name="point-mae",
        target="medssl.weights.clouds.point_mae",
        title="Point-MAE",
        paper="Pang et al., Point-MAE, ECCV 2022, arXiv:2203.06604",
        take_when="Single objects; the usual start of masked modelling on clouds.",
        trained_on="52,000 shapes of ShapeNet-55",
        code=MIT,
        weights=MIT,
        published="github.com/Pang-Yatian/Point-MAE: pretrain.pth",
        encoder="point_vit (384, 12 blocks)",
        input=_SPHERE,
        proof=_CLOUDS,
    ),
    Source(
        name="point-jepa",
        target="medssl.weights.clouds.point_jepa",
        title="Point-JEPA",
        paper="Saito et al., Point-JEPA, WACV 2025, arXiv:2404.16432",
        take_when="Single objects, frozen features; the teacher is taken where it was saved.",
        trained_on="52,000 shapes of ShapeNet-55",
        code=MIT,
        weights=HUB,
        published="github.com/Ayumu-J-S/Point-JEPA",
        encoder="point_vit (384, 12 blocks)",
        input=_SPHERE,
        proof=_CLOUDS,
    ),
    Source(
        name="dgcnn",
        target="medssl.weights.clouds.dgcnn",
        title="DGCNN of OcCo or CrossPoint",
        paper="Wang et al., OcCo, ICCV 2021, arXiv:2010.01089; Afham et al., CVPR 2022, arXiv:2203.00680",
        take_when="To compare with papers on DGCNN.",
        trained_on="shapes of ModelNet40 or ShapeNet",
        code=Licence("MIT (OcCo); CrossPoint's repository says its own", ("unknown",)),
        weights=HUB,
        published="github.com/hansen7/OcCo, github.com/MohamedAfham/CrossPoint",
        encoder="dgcnn",
        input=_SPHERE,
        proof=_CLOUDS,
    ),
)
