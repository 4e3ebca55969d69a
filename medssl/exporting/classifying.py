"""A classifier for other programs: its network with the temperature inside, and how MONAI makes its input."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn, softmax

from medssl.errors import DataError
from medssl.exporting.exportable import Exportable
from medssl.exporting.inert import inert
from medssl.tasks.classification import Classifier

__all__ = ["CalibratedClassifier", "bundle_of_classes", "fitting_transforms"]


class CalibratedClassifier(nn.Module):
    """Logits of a classifier, and the probabilities that its run's temperature makes of them.

    Args:
        model: The classifier. Of sets of slices, a batch is the slices of one scan.
    """

    def __init__(self, model: Exportable) -> None:
        super().__init__()
        assert isinstance(model.network, Classifier)
        assert model.looks is not None
        assert model.decision is not None
        self.network, self.temperature = model.network, float(model.decision.temperature)
        self.sets = model.looks.level == "set"

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, (B, classes) each, of images (B, C, z, y, x); of a set (1, classes)."""
        logits = self.network(images, images.shape[0] if self.sets else 1)
        return logits, softmax(logits.double() / self.temperature, dim=1).float()


def fitting_transforms(model: Exportable) -> list[dict[str, Any]]:
    """Return MONAI's transforms that fit a scan, scaled to [0, 1] in axes (C, x, y, z), to a classifier's window.

    The whole scan is taken for the body, which MONAI does not look for.

    Raises:
        DataError: The classifier looks at slices.
    """
    assert model.looks is not None
    if model.looks.level != "volume":
        raise DataError(
            f"'{model.name}' looks at slices ({model.looks.level}), which no MONAI bundle is written for: export it to "
            "onnx, whose JSON says how the slices are cut."
        )
    size = list(model.window[::-1])
    if model.looks.fit == "crop":
        return [{"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": size}]
    (_, y_mm, x_mm), (_, height, width) = model.voxels_mm, model.window
    # mm of a pixel, the same along x and y: as few as hold the scan; what is wider is padded
    pixel = f"max(image.shape[1] * {x_mm} / {width}, image.shape[2] * {y_mm} / {height})"
    padded = f"[max(1, round({width} * {pixel} / {x_mm})), max(1, round({height} * {pixel} / {y_mm})), -1]"
    functional = "torch.nn.functional"
    shrunk = f"{functional}.adaptive_avg_pool3d(image[None], [min(a, b) for a, b in zip(image.shape[1:], {size})])"
    grown = f"$lambda image: {functional}.interpolate({shrunk}, size={size}, mode='trilinear', align_corners=False)[0]"
    return [
        {
            "_target_": "Lambdad",
            "keys": "image",
            "func": f"$lambda image: monai.transforms.ResizeWithPadOrCrop({padded})(image)",
        },
        {"_target_": "Lambdad", "keys": "image", "func": grown},
    ]


def bundle_of_classes(model: Exportable, *, several: bool) -> dict[str, Any]:
    """Return a bundle's entries for a classifier: the class of each scan in ``eval/classes.json``.

    Args:
        model: The classifier.
        several: Whether a scan has several channels, a file each.
    """
    assert model.decision is not None
    cut = model.decision.threshold
    if cut is not None and len(model.classes) == 2:
        chosen = f"$[int(p[1] >= {cut!r}) for p in @probabilities]"
    else:
        chosen = "$[int(p.argmax()) for p in @probabilities]"
    row = "{'file': f, 'predicted': @classes[c], 'probability': dict(zip(@classes, map(float, p)))}"
    rows = f"[{row} for f, c, p in zip(@files, @chosen, @probabilities)]"
    path = "os.path.join(@output_dir, 'classes.json')"
    return {
        "classes": inert(list(model.classes)),
        "inferer": {"_target_": "SimpleInferer"},
        "pipeline": {"_target_": "Compose", "transforms": ["@preprocessing", "@predicting"]},
        "probabilities": "$[item['pred'].double().cpu().numpy() for item in map(@pipeline, @datalist)]",
        "chosen": chosen,
        "files": f"$[os.path.basename(item['image']{'[0]' if several else ''}) for item in @datalist]",
        "run": [
            "$os.makedirs(@output_dir, exist_ok=True)",
            f"$json.dump({rows}, open({path}, 'w', encoding='utf-8'), ensure_ascii=False, indent=1)",
        ],
    }
