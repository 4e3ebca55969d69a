"""The commands that use what came out: predict, report, export, embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.export_targets import EXPORTS
from pipelines.options import AsJson, DryRun, Out, Overrides, Overwrite, Preset, Quiet, Verbose, call

__all__ = ["add_to"]

_PANEL = "Use what came out"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command("predict", rich_help_panel=_PANEL)(_predict)
    app.command("report", rich_help_panel=_PANEL)(_report)
    app.command("export", rich_help_panel=_PANEL)(_export)
    app.command("embed", rich_help_panel=_PANEL)(_embed)


def _predict(
    run: Annotated[str, typer.Argument(metavar="RUN[,RUN...]", help="A fine-tuned run; several give their mean.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", help="Scans, clouds, folders, DICOM series, a manifest or CSV; and KEY=VALUE settings."
        ),
    ],
    out: Out,
    runs: Annotated[
        list[Path] | None, typer.Option("--run", help="One more run for the mean; may be given several times.")
    ] = None,
    preset: Preset = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a fine-tuned run on new scans or clouds. No labels and no store are needed; the same command goes on.

    Masks lie on the grid of their scan, in its format (DICOM SEG for DICOM). Classes, volumes, what failed and what
    differs from training stand in predictions.csv.

    For example:

      medssl predict runs/ct-seg new/ --out predictions/new

      medssl predict runs/ct-seg patient7.nii.gz dicom/patient8 --out predictions/two probabilities=true

      medssl predict runs/fold0,runs/fold1,runs/fold2 new/ --out predictions/mean uncertainty=true
    """
    overrides = [str(word) for word in inputs if "=" in str(word) and not word.exists()]
    first = [Path(run)] if Path(run).exists() else [Path(word) for word in run.split(",") if word]
    call(
        "predict", [*first, *(runs or [])], *(word for word in inputs if str(word) not in overrides), out=out,
        preset=preset, overrides=overrides, overwrite=overwrite, dry_run=dry_run, as_json=as_json, quiet=quiet,
        verbose=verbose,
    )  # fmt: skip


def _report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Runs, scores, stores, manifests, NAME-check.json, vectors; and KEY=VALUE settings.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    preset: Preset = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write one page on runs, stores, scores and comparisons: it needs no network and holds no path of this machine.

    For example:

      medssl report runs/ct-seg --out ct.html

      medssl report runs/ct runs/few-label ct.parquet --out ct.html title="CT, few labels"
    """
    overrides = [str(word) for word in runs if "=" in str(word) and not word.exists()]
    call(
        "report", *(run for run in runs if str(run) not in overrides), out=out, preset=preset, overrides=overrides,
        dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip


def _export(
    run: Annotated[Path, typer.Argument(help="A pretraining or fine-tuning run that has ended.")],
    to: Annotated[str, typer.Option("--to", metavar="FORM", help=f"One of: {', '.join(EXPORTS)}.")],
    out: Out,
    overrides: Overrides = None,
    preset: Preset = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a run's segmenter or encoder in the form of another program.

    For example:

      medssl export runs/ct-seg --to onnx --out segmenter.onnx

      medssl export runs/ct --to nnunet --out nnunet/ct
    """
    call(
        "export", run, to=to, out=out, preset=preset, overrides=overrides or [], dry_run=dry_run,
        as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip


def _embed(
    run: Annotated[Path, typer.Argument(help="A run with an encoder.")],
    data: Annotated[Path, typer.Option("--data", help="The store that cache wrote.")],
    out: Out,
    overrides: Overrides = None,
    preset: Preset = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write one vector for every scan of a store, as .parquet or .npz.

    For example:

      medssl embed runs/ct --data stores/ct --out ct-features.parquet
    """
    call(
        "embed", run, data=data, out=out, preset=preset, overrides=overrides or [], dry_run=dry_run,
        as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip
