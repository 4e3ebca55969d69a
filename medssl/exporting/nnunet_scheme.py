"""How a channel's values become input, in the words of nnU-Net's plans; and which of our schemes they cannot say.

nnU-Net knows four: clipped and scaled by numbers of the plan (``CTNormalization``), each scan's own z-score over the
box of all that is not 0 (``ZScoreNormalization``), its extremes to 0 and 1 (``RescaleTo01Normalization``), nothing.
Percentiles of a scan, and moments inside the body, it cannot take.
"""

from __future__ import annotations

from dataclasses import dataclass

from medssl.errors import DataError
from medssl.exporting.exportable import Exportable, ExportInput
from medssl.store.options import CT_RANGE

__all__ = ["Held", "held", "must_be_held"]

_CACHE = "medssl cache MANIFEST --out STORE normalise=nonzero"


@dataclass(frozen=True)
class Held:
    """What stands in a plan for one channel.

    Attributes:
        scheme: Class of nnU-Net's normalisation.
        properties: Its numbers.
        instead: What training did, where nnU-Net has no such thing and ``scheme`` is but the nearest; "" elsewhere.
    """

    scheme: str
    properties: dict[str, float]
    instead: str = ""


def held(channel: ExportInput) -> Held:
    """Return nnU-Net's form of a channel's normalisation, exact where ``instead`` is empty."""
    if channel.numbers is not None and channel.modality == "CT":
        low, high, less, over = channel.numbers
        return Held("CTNormalization", _numbers(low, high, less, over))
    if channel.normalise == "unit" and channel.intensity is not None:
        low, high = channel.intensity
        return Held("CTNormalization", _numbers(low, high, low, high - low))
    own = _numbers(0.0, 1.0, 0.0, 1.0)
    if channel.normalise == "nonzero":
        return Held("ZScoreNormalization", own)
    if channel.normalise == "unit":
        return Held("RescaleTo01Normalization", own, f"its {channel.ends} inside the body became 0 and 1")
    if channel.numbers is not None:
        return Held(
            "ZScoreNormalization", own, f"one mean and deviation of all scans, of what lies between {channel.ends}"
        )
    return Held("ZScoreNormalization", own, "z-scores of the voxels inside the body")


def must_be_held(model: Exportable, *, nearest: bool) -> list[str]:
    """Return what to warn of: the channels for which nnU-Net has no more than something near, in words.

    Args:
        model: What is exported.
        nearest: Whether that will do.

    Raises:
        DataError: There are such channels, and it will not.
    """
    elsewhere = _places(model)
    found = [f"{channel.name}: {own.instead}" for channel in model.channels if (own := held(channel)).instead]
    if not found or nearest:
        nearest_of = [f"nnU-Net cannot make this input ({one}); the nearest that it has is written" for one in found]
        return nearest_of + elsewhere
    raise DataError(
        f"nnU-Net cannot make the input of '{model.name}' ({'; '.join(found)}), so that its predictor would show the "
        f"network something else. Train on what both have: {_CACHE}, or data.normalise=nonzero of pretrain and "
        "finetune on the store that is there. Or export with nearest=true, and judge what nnU-Net predicts."
    )


def _places(model: Exportable) -> list[str]:
    """Return what of the scans' grids nnU-Net makes otherwise than the training store did, in words."""
    said = []
    if model.kept_voxels:
        mean = " x ".join(f"{size:g}" for size in model.voxels_mm)
        said.append(
            f"the store kept each scan's voxels (spacing_mm=keep), and nnU-Net resamples all to their mean, {mean} mm"
        )
    elif model.grid != "nnunet":
        said.append(
            "nnU-Net stretches a resampled scan to whole voxels and the store did not: predictions differ by up to "
            "half a voxel. medssl cache MANIFEST --out STORE grid=nnunet makes scans as nnU-Net does"
        )
    else:
        said += [told for one in model.channels if (told := _clipped(one))]
    if model.crop_mm is not None:
        said.append("the store was cropped to the body, and nnU-Net segments whole scans, air around it too")
    if model.steps != "even":
        said.append("the run does not go over a scan as nnU-Net does: medssl predict RUN SCANS steps=even does")
    return said


def _clipped(channel: ExportInput) -> str:
    """Return how the HU of a store on nnU-Net's grid were clipped otherwise than the network's, in words, or ""."""
    ends = channel.numbers[:2] if channel.numbers is not None else channel.intensity
    if channel.modality != "CT" or ends is None or tuple(ends) == (channel.within or CT_RANGE):
        return ""
    low, high = (round(end) for end in ends)
    return (
        f"{channel.name}: HU are clipped to {low} and {high} before they are resampled there, and after it here; a "
        f"store with grid=nnunet hu_range=[{low},{high}] clips them before"
    )


def _numbers(low: float, high: float, less: float, over: float) -> dict[str, float]:
    ends = {"percentile_00_5": low, "percentile_99_5": high, "mean": less, "std": over}
    return {**ends, "median": less, "min": low, "max": high}
