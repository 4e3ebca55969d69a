"""What ``export`` and ``auto --export`` take: one list for both, and what each form is for."""

from __future__ import annotations

from dataclasses import dataclass

from medssl.errors import ConfigError, did_you_mean

__all__ = ["EXPORTS", "ExportTarget", "check_export"]


@dataclass(frozen=True)
class ExportTarget:
    """A form of export: what it is in words, and whether networks on clouds have it."""

    words: str
    clouds: bool = False


EXPORTS = {
    "onnx": ExportTarget("an .onnx file for onnxruntime and others"),
    "monai": ExportTarget("a MONAI bundle"),
    "nnunet": ExportTarget("a trained nnU-Net model, or starting weights for one"),
    "safetensors": ExportTarget("weights and card, for medssl.load", clouds=True),
}


def check_export(to: str, *, what: str = "", clouds: bool = False) -> None:
    """See that there is such an export.

    Args:
        to: What was asked for.
        what: What is exported, for the error.
        clouds: Whether its network is one on clouds.

    Raises:
        ConfigError: There is none, or none for clouds.
    """
    if to not in EXPORTS:
        raise ConfigError(f"There is no export to '{to}'. {did_you_mean(to, EXPORTS)}")
    if clouds and not EXPORTS[to].clouds:
        allowed = ", ".join(name for name, row in EXPORTS.items() if row.clouds)
        raise ConfigError(
            f"{what} is of clouds, and '{to}' is for networks on scans. Clouds have --to {allowed}, which "
            "medssl.load reads."
        )
