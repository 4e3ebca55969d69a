"""The commands that use what came out: predict, report, export, embed, match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.workflows.export_targets import EXPORTS
from pipelines.completion import export_forms
from pipelines.declared import Given, command
from pipelines.options import Out

__all__ = ["COMMANDS"]

_PANEL = "Use what came out"


def _split(words: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return places and overrides apart."""
    overrides = [str(word) for word in words if "=" in str(word) and not word.exists()]
    return [word for word in words if str(word) not in overrides], overrides


def _of_predict(given: Given) -> tuple[Sequence[Any], Given]:
    run, inputs, more = given.pop("run"), given.pop("inputs"), given.pop("runs", [])
    places, overrides = _split(inputs)
    first = [Path(run)] if Path(run).exists() else [Path(word) for word in run.split(",") if word]
    return ([*first, *more], *places), given | {"overrides": [*overrides, *given.get("overrides", [])]}


def _of_report(given: Given) -> tuple[Sequence[Any], Given]:
    places, overrides = _split(given.pop("runs"))
    return places, given | {"overrides": overrides}


@command("predict", panel=_PANEL, shared=("workers", "preset", "overwrite", "dry_run"), ready=_of_predict)
def _predict(
    run: Annotated[str, typer.Argument(metavar="RUN[,RUN...]", help="A fine-tuned run. Several are averaged.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Scans, clouds, folders, DICOM series, a manifest or a CSV file; then KEY=VALUE settings.",
        ),
    ],
    out: Out,
    runs: Annotated[list[Path] | None, typer.Option("--run", help="One more run to average. Repeatable.")] = None,
) -> None:
    """Predict new scans or clouds with a fine-tuned run. Needs no labels and no store. Run it again to continue.

    Each mask has the grid and the format of its scan (DICOM SEG for DICOM). predictions.csv lists classes, volumes,
    failures, and how each scan differs from the training scans.

    For example:

      medssl predict runs/ct-seg new/ --out predictions/new

      medssl predict runs/ct-seg patient7.nii.gz dicom/patient8 --out predictions/two probabilities=true

      medssl predict runs/fold0,runs/fold1,runs/fold2 new/ --out predictions/mean uncertainty=true
    """


@command("report", panel=_PANEL, shared=("preset", "dry_run"), ready=_of_report)
def _report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Runs, scores, stores, manifests, NAME-check.json files, vectors; then KEY=VALUE settings.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
) -> None:
    """Write one HTML page about runs, stores, scores and comparisons. It works offline and shows no local paths.

    For example:

      medssl report runs/ct-seg --out ct.html

      medssl report runs/ct runs/few-label ct.parquet --out ct.html title="CT, few labels"
    """


@command("export", panel=_PANEL)
def _export(
    run: Annotated[Path, typer.Argument(help="A finished pretraining or fine-tuning run.")],
    to: Annotated[
        str,
        typer.Option("--to", metavar="FORM", help=f"One of: {', '.join(EXPORTS)}.", autocompletion=export_forms),
    ],
    out: Out,
) -> None:
    """Export a run's segmenter or encoder for other programs: ONNX, MONAI, nnU-Net, TorchScript and more.

    For example:

      medssl export runs/ct-seg --to onnx --out segmenter.onnx

      medssl export runs/ct --to nnunet --out nnunet/ct
    """


@command("embed", panel=_PANEL)
def _embed(
    run: Annotated[Path, typer.Argument(help="A run with an encoder.")],
    data: Annotated[Path, typer.Option("--data", help="The store that cache wrote.")],
    out: Out,
) -> None:
    """Write one feature vector for every scan of a store, to .parquet or .npz.

    For example:

      medssl embed runs/ct --data stores/ct --out ct-features.parquet
    """


def _of_match(given: Given) -> tuple[Sequence[Any], Given]:
    places, overrides = _split([*given.pop("into", []), *given.pop("more", [])])
    return (given.pop("run"), given.pop("scan")), given | {
        "into": places,
        "overrides": [*overrides, *given.get("overrides", [])],
    }


@command("match", panel=_PANEL, shared=("preset", "dry_run"), ready=_of_match)
def _match(
    run: Annotated[Path, typer.Argument(help="A run with an encoder of scans.")],
    scan: Annotated[Path, typer.Argument(help="The scan in which you know the place.")],
    point: Annotated[
        str, typer.Option("--point", metavar="Z,Y,X", help="The place in SCAN: a voxel of the file, counted from 0.")
    ],
    into: Annotated[list[Path], typer.Option("--in", metavar="OTHER...", help="The scans to search.")],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[OTHER...]", help="More scans to search; then KEY=VALUE settings.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for match.json and match.png.")] = Path("match"),
) -> None:
    """Find a place of one scan in other scans, by frozen features. Shows a picture, and how sure the match is.

    For example:

      medssl match runs/ct patient1.nii.gz --point 40,112,96 --in patient2.nii.gz patient3.nii.gz --out match
    """


COMMANDS = (_predict, _report, _export, _embed, _match)
