"""What ``export`` and ``auto --export`` take: one table for both, what each form is for, and of which networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.errors import ConfigError, did_you_mean
from medssl.writing import file_for, folder_for

if TYPE_CHECKING:
    from medssl.domains.domain import Domain

__all__ = ["EXPORTS", "ExportTarget", "check_export", "export_to"]


@dataclass(frozen=True)
class ExportTarget:
    """A form of export: what it is in words, the endings of its file, and networks on which kinds of data have it.

    Attributes:
        suffixes: The first is what a name without one of them gets; none where a folder is written.
    """

    words: str
    suffixes: tuple[str, ...] = ()
    domains: tuple[str, ...] = ("volumes",)


EXPORTS = {
    "onnx": ExportTarget("an .onnx file for onnxruntime and others", (".onnx",)),
    "monai": ExportTarget("a MONAI bundle"),
    "nnunet": ExportTarget("a trained nnU-Net model, or starting weights for one"),
    "torchscript": ExportTarget("a .pt file for libtorch, from C++ or Python", (".pt", ".ts")),
    "hub": ExportTarget("a folder as Hugging Face's hub has models; medssl import reads it back"),
    "safetensors": ExportTarget("weights and card, for medssl.load", domains=("volumes", "points")),
}


def export_to(to: str, out: str | Path) -> Path:
    """Return where an export of this form goes, asked before it is made.

    Raises:
        ConfigError: Something of another kind is there, or on the way to it.
        DiskError: It lies where nothing can be written.
    """
    path, suffixes = Path(out), EXPORTS[to].suffixes
    if not suffixes:
        return folder_for(path)
    return file_for(path if path.suffix in suffixes else path.with_name(f"{path.name}{suffixes[0]}"))


def check_export(to: str, *, what: str = "", domain: Domain | None = None) -> None:
    """See that there is such an export.

    Args:
        to: What was asked for.
        what: What is exported, for the error.
        domain: On which data its network is, where that is known.

    Raises:
        ConfigError: There is none, or none for this kind of data.
    """
    if to not in EXPORTS:
        raise ConfigError(f"There is no export to '{to}'. {did_you_mean(to, EXPORTS)}")
    if domain is not None and domain.name not in EXPORTS[to].domains:
        from medssl.domains.domain import domain_named

        own = f"{domain.noun}s"
        served = " or ".join(f"{domain_named(name).noun}s" for name in EXPORTS[to].domains)
        allowed = ", ".join(name for name, row in EXPORTS.items() if domain.name in row.domains)
        raise ConfigError(
            f"{what} is of {own}, and '{to}' is for networks on {served}. {own.capitalize()} have --to {allowed}, "
            "which medssl.load reads."
        )
