"""The commands that train and judge: pretrain, finetune, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import (
    AsJson,
    DryRun,
    Out,
    Overrides,
    Overwrite,
    Preset,
    Quiet,
    Resume,
    Verbose,
    call,
    split_overrides,
)

__all__ = ["add_to"]

_PANEL = "Train and judge"

Devices = Annotated[
    str | None, typer.Option("--devices", metavar="N|auto", help="Processes on this machine, one a GPU.")
]

Finish = Annotated[
    bool, typer.Option("--finish", help="Close the run in --out at the step that it reached, and use it as it is.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command("pretrain", rich_help_panel=_PANEL)(_pretrain)
    app.command("finetune", rich_help_panel=_PANEL)(_finetune)
    app.command("evaluate", rich_help_panel=_PANEL)(_evaluate)


def _pretrain(
    out: Out,
    preset: Annotated[
        str | None, typer.Argument(help="A preset, a YAML file or a method; see: medssl list presets.")
    ] = None,
    overrides: Overrides = None,
    data: Annotated[Path | None, typer.Option("--data", help="The store that cache wrote.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="A method, where no preset is given.")] = None,
    devices: Devices = None,
    init_from: Annotated[Path | None, typer.Option("--init-from", help="A run whose weights to start from.")] = None,
    resume: Resume = False,
    finish: Finish = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pretrain an encoder on unlabelled scans. Ctrl-C leaves a checkpoint; --resume goes on from it.

    For example:

      medssl pretrain global_contrast_small --data stores/ct --out runs/ct

      medssl pretrain voco --data stores/ct --out runs/ct train.steps=50000 train.lr=1e-4

      medssl pretrain --out runs/ct --resume

      torchrun --nproc-per-node 4 -m medssl pretrain voco --data stores/ct --out runs/ct
    """
    preset, given = split_overrides(preset, overrides)
    call(
        "pretrain", preset, data=data, out=out, overrides=given, method=method, devices=devices, resume=resume,
        finish=finish, init_from=init_from, overwrite=overwrite, dry_run=dry_run, as_json=as_json, quiet=quiet,
        verbose=verbose,
    )  # fmt: skip


def _finetune(
    out: Out,
    encoder_run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A pretraining run; without one, training is from scratch.")
    ] = None,
    overrides: Overrides = None,
    data: Annotated[Path | None, typer.Option("--data", help="The store that cache wrote, with labels.")] = None,
    preset: Preset = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="segmentation|classification", help="As the labels are if unset."),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="RUN's architecture and recipe with fresh weights, to compare with.")
    ] = False,
    labels: Annotated[
        int | None, typer.Option("--labels", metavar="N", help="Use the labels of N patients; all if unset.")
    ] = None,
    draw: Annotated[int | None, typer.Option("--draw", help="Which draw of N patients; draws are nested in N.")] = None,
    predict: Annotated[
        list[str] | None, typer.Option("--predict", metavar="SPLIT", help="Splits to predict; else test.")
    ] = None,
    devices: Devices = None,
    resume: Resume = False,
    finish: Finish = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a segmenter or classifier on labelled scans, pretrained or from scratch, and predict the test scans.

    For example:

      medssl finetune runs/ct --data stores/ct --out runs/ct-seg --labels 4

      medssl finetune runs/ct --data stores/ct --out runs/ct-scratch --labels 4 --from-scratch

      medssl finetune runs/mr --data stores/mr --task classification classification.target=diagnosis --out runs/mr-dx
    """
    encoder_run, given = split_overrides(encoder_run, overrides)
    call(
        "finetune",
        encoder_run,
        data=data,
        out=out,
        preset=preset,
        overrides=given,
        task=task,
        from_scratch=from_scratch or None,
        labels=labels,
        draw=draw,
        predict=predict,
        devices=devices,
        resume=resume,
        finish=finish,
        overwrite=overwrite,
        dry_run=dry_run,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
    )


def _evaluate(
    run: Annotated[Path, typer.Argument(help="A fine-tuning run or a folder of label maps.")],
    data: Annotated[Path, typer.Option("--data", help="The store, a manifest, or a folder of label maps: the truth.")],
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; the run's own folder if unset.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", help="A run to test against; may be given several times; probe: also 'random'."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", metavar="few-label|probe", help="Run a whole protocol.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/K", help="few-label: do the I-th of K parts of the work.")
    ] = None,
    preset: Preset = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score predictions: overlap and surface distances with intervals, and a paired test against other runs.

    For example:

      medssl evaluate runs/ct-seg --data stores/ct --against runs/ct-scratch

      medssl evaluate runs/ct --data stores/ct --protocol few-label --out runs/few-label

      medssl evaluate runs/shapes --data stores/shapes --protocol probe --against random

      medssl evaluate runs/mr --data stores/mr --protocol probe probe.scans.target=diagnosis --out runs/probe
    """
    call(
        "evaluate", run, data=data, out=out, against=against or [], protocol=protocol, preset=preset,
        overrides=overrides or [], shard=shard, dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip
