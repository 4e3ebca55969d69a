"""The windows, crops and patches of each pretraining method, from the window that fits scans and encoder."""

from __future__ import annotations

from typing import Any

from medssl.errors import ConfigError

__all__ = ["FITTED", "WINDOWS_OF_A_SCAN", "views_of"]

Triple = tuple[int, int, int]
_TWO_CROPS = ("simclr", "cvrl", "moco", "byol", "simsiam", "barlow", "vicreg")
_MANY_CROPS = ("swav", "dino", "ibot")
FITTED = ("voco", "masked", "voco_masked", "spark", "joined", "global_contrast", *_TWO_CROPS, *_MANY_CROPS)
_PARTITIONS = 4
WINDOWS_OF_A_SCAN = {"global_contrast": _PARTITIONS, "cvrl": 2}


def views_of(method: str, window: Triple, multiple: Triple) -> dict[str, Any]:
    """Return a method's settings that follow from the window, by dotted key.

    Args:
        method: One of ``FITTED``.
        window: Voxels of a window, (z, y, x), multiples of what the encoder divides by.
        multiple: What the encoder divides by.

    Raises:
        ConfigError: The method's views cannot be set from a window.
    """
    if method in ("masked", "spark"):
        return _named("method", _masked(window, multiple))
    if method == "voco":
        return _named("method", _voco(window, multiple))
    if method == "voco_masked":
        return _named("method.voco", _voco(window, multiple)) | _named("method.masked", _masked(window, multiple))
    if method == "joined":
        crops, patches = _crops(window, multiple), _masked(window, multiple)
        return _named("method.parts.contrast.method", crops) | _named("method.parts.masked.method", patches)
    if method == "global_contrast":
        z = max(_least(multiple[0]), window[0] // (_PARTITIONS * multiple[0]) * multiple[0])
        return {"method.window": [z, *window[1:]], "method.partitions": _PARTITIONS}
    if method in _TWO_CROPS:
        return _named("method", _crops(window, multiple))
    if method in _MANY_CROPS:
        return _named("method", _crops(window, multiple) | {"local_crop": _share(window, multiple, 0.4)})
    raise ConfigError(
        f"method: auto cannot fit the views of '{method}' to scans; it can those of {', '.join(FITTED)}. "
        "Run the others by themselves: medssl pretrain METHOD --data OUT/store --out RUN."
    )


def _named(prefix: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{key}": value for key, value in settings.items()}


def _least(multiple: int) -> int:
    """Return the shortest view: two voxels of the coarsest level, for a normalisation needs more than one."""
    return 2 * multiple if multiple > 1 else 1


def _share(window: Triple, multiple: Triple, share: float) -> list[int]:
    """Return a view of about this share of the window along each axis."""
    return [min(n, max(_least(m), round(share * n / m) * m)) for n, m in zip(window, multiple, strict=True)]


def _crops(window: Triple, multiple: Triple) -> dict[str, Any]:
    return {"window": list(window), "crop": _share(window, multiple, 0.7)}


def _masked(window: Triple, multiple: Triple) -> dict[str, Any]:
    patch = [max(1, step // 2) if step > 8 else step for step in multiple]
    patch = [p if p > 1 else next(k for k in (4, 2, 1) if n % k == 0) for p, n in zip(patch, window, strict=True)]
    return {"window": list(window), "patch": patch}


def _voco(window: Triple, multiple: Triple) -> dict[str, Any]:
    # Two base crops along an axis, three along the longest; one where a crop would be a slice or two.
    grid = [
        1 if n < 16 or n < 2 * m else 3 if n == max(window) and n >= 6 * m else 2
        for n, m in zip(window, multiple, strict=True)
    ]
    crop = [n // (count * m) * m for n, m, count in zip(window, multiple, grid, strict=True)]
    return {"window": list(window), "crop": crop, "grid": grid}
