"""The published weights of slices: one row each, with licence, input and what proves it."""

from __future__ import annotations

from medssl.weights.source import FREE, HUB, MIT, Licence, Source

__all__ = ["SLICES"]

_SLICES = "tests/oracles/test_published_slices.py: timm's own network of the makers' names"
_RGB = "slices, 0 to 1 by the store, as three equal channels of a photograph (folded into one)"

SLICES: tuple[Source, ...] = (
    Source(
        name="dinov2",
        target="medssl.weights.slices.dinov2",
        title="DINOv2 (S, B, L, g; with registers or without)",
        paper="Oquab et al., DINOv2, TMLR 2024, arXiv:2304.07193",
        take_when="Slices, frozen features or a strong start, any image size that 14 divides.",
        trained_on="142 million photographs",
        code=FREE,
        weights=FREE,
        published="github.com/facebookresearch/dinov2: dinov2_vitb14_pretrain.pth",
        encoder="timm",
        input=_RGB,
        proof=_SLICES,
    ),
    Source(
        name="dinov3",
        target="medssl.weights.slices.dinov3",
        title="DINOv3 ViT (S, B, L)",
        paper="Simeoni et al., DINOv3, 2025, arXiv:2508.10104",
        take_when="Slices; stronger dense features than DINOv2.",
        trained_on="1.7 billion photographs",
        code=Licence("DINOv3 License", ("own terms",)),
        weights=Licence("DINOv3 License", ("own terms",)),
        published="github.com/facebookresearch/dinov3 (on request)",
        encoder="timm",
        input=_RGB,
        proof=_SLICES,
    ),
    Source(
        name="meddinov3",
        target="medssl.weights.slices.meddinov3",
        title="MedDINOv3 ViT-B/16",
        paper="Li et al., MedDINOv3, 2025, arXiv:2509.02379",
        take_when="Slices of CT.",
        trained_on="3.9 million slices of CT, from DINOv3",
        code=FREE,
        weights=Licence("DINOv3 License too", ("own terms",)),
        published="huggingface.co/ricklisz123/MedDINOv3-ViTB-16-CT-3M",
        encoder="timm",
        input="slices of CT, -1000 to 1000 HU, less 65.108, over 178.017",
        proof=_SLICES,
    ),
    Source(
        name="biomedclip",
        target="medssl.weights.slices.biomedclip",
        title="BiomedCLIP's image tower",
        paper="Zhang et al., BiomedCLIP, 2023, arXiv:2303.00915",
        take_when="Slices that figures of papers show too; the text tower is left out.",
        trained_on="15 million figures with captions (PMC-15M)",
        code=MIT,
        weights=MIT,
        published="huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        encoder="timm",
        input=_RGB,
        proof=_SLICES,
    ),
    Source(
        name="radimagenet",
        target="medssl.weights.slices.radimagenet",
        title="RadImageNet's ResNet-50",
        paper="Mei et al., RadImageNet, Radiology: Artificial Intelligence 2022",
        take_when="Slices, convolutions that saw CT, MR and ultrasound.",
        trained_on="1.35 million slices of CT, MR and ultrasound",
        code=HUB,
        weights=HUB,
        published="github.com/BMEII-AI/RadImageNet: ResNet50.pt",
        encoder="timm (resnet50)",
        input=_RGB,
        proof=_SLICES,
    ),
)
