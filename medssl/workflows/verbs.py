"""The verbs by name: which function serves each, and which settings class a preset of it must fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medssl.table import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from medssl.settings import Settings

__all__ = ["VERBS", "Verb", "function_of", "settings_of"]


@dataclass(frozen=True, kw_only=True)
class Verb(Row):
    """One verb of the command line; ``target`` is its function.

    Attributes:
        summary: What it does, in one line.
    """

    summary: str


VERBS = Table(
    "verb",
    (
        Verb(
            name="fetch",
            target="medssl.workflows.fetch.fetch",
            settings="medssl.workflows.fetch.FetchSettings",
            summary="Bring a public data set by its card.",
        ),
        Verb(
            name="index",
            target="medssl.workflows.index.index",
            settings="medssl.workflows.index.IndexSettings",
            summary="Describe every scan of a folder in a manifest, one row a scan.",
        ),
        Verb(
            name="check",
            target="medssl.workflows.check.check",
            settings="medssl.workflows.check.CheckSettings",
            summary="Look for damage, copies, leaks, odd geometry and bad labels.",
        ),
        Verb(
            name="reduce",
            target="medssl.workflows.reduce.reduce",
            settings="medssl.workflows.reduce_settings.ReduceSettings",
            summary="Mark copies, and choose which scans to train on.",
        ),
        Verb(
            name="check-split",
            target="medssl.workflows.check_split.check_split",
            settings="medssl.workflows.check_split.CheckSplitSettings",
            summary="See whether train and test share a patient or an image.",
        ),
        Verb(
            name="query",
            target="medssl.workflows.query.query",
            settings="medssl.workflows.query.QuerySettings",
            summary="Ask whether a scan, or a copy of it, is in an index.",
        ),
        Verb(
            name="cache",
            target="medssl.workflows.cache.cache",
            settings="medssl.workflows.cache.CacheSettings",
            summary="Write the scans of a manifest as a store that is read by windows.",
        ),
        Verb(
            name="import",
            target="medssl.workflows.import_weights.import_weights",
            summary="Read published weights into a run that every other verb takes.",
        ),
        Verb(
            name="pretrain",
            target="medssl.workflows.pretrain.pretrain",
            settings="medssl.workflows.pretrain_settings.PretrainSettings",
            summary="Pretrain an encoder on unlabelled scans.",
        ),
        Verb(
            name="finetune",
            target="medssl.workflows.finetune.finetune",
            settings="medssl.workflows.finetune_settings.FinetuneSettings",
            summary="Train a segmenter or classifier on labelled scans, pretrained or from scratch.",
        ),
        Verb(
            name="evaluate",
            target="medssl.workflows.evaluate.evaluate",
            settings="medssl.workflows.evaluate_settings.EvaluateSettings",
            summary="Score predictions with intervals, and test them against other runs.",
        ),
        Verb(
            name="predict",
            target="medssl.workflows.predict.predict",
            settings="medssl.workflows.predict_settings.PredictSettings",
            summary="Run a fine-tuned run on new scans or clouds: masks, classes or parts.",
        ),
        Verb(
            name="report",
            target="medssl.workflows.report.report",
            settings="medssl.workflows.report.ReportSettings",
            summary="Write one page on runs and their scores that needs no network.",
        ),
        Verb(
            name="export",
            target="medssl.workflows.export.export",
            settings="medssl.workflows.export.ExportSettings",
            summary="Write a run's network as ONNX, a MONAI bundle, nnU-Net weights or safetensors.",
        ),
        Verb(
            name="embed",
            target="medssl.workflows.embed.embed",
            settings="medssl.workflows.embed_settings.EmbedSettings",
            summary="Write one vector for every scan of a store.",
        ),
        Verb(
            name="match",
            target="medssl.workflows.match.match",
            settings="medssl.workflows.match_settings.MatchSettings",
            summary="Find a place of one scan in others by frozen features.",
        ),
        Verb(
            name="auto",
            target="medssl.chains.auto.auto",
            settings="medssl.chains.auto_settings.AutoSettings",
            summary="Take a folder of scans the whole way, with defaults that are explained.",
        ),
        Verb(
            name="demo",
            target="medssl.chains.demo.demo",
            settings="medssl.chains.demo.DemoSettings",
            summary="Show the whole chain in minutes, on synthetic patients or on real data.",
        ),
        Verb(
            name="list",
            target="medssl.workflows.list_things.list_things",
            summary="List presets, methods, parts, encoders, data sets, published weights, formats, trackers or verbs.",
        ),
        Verb(
            name="show",
            target="medssl.workflows.show.show",
            summary="Show a preset, a method, an encoder, a data card, published weights, or every setting of a verb.",
        ),
        Verb(
            name="validate",
            target="medssl.workflows.validate.validate",
            summary="Check a settings file, and print what it resolves to.",
        ),
        Verb(
            name="copy",
            target="medssl.workflows.copy_preset.copy_preset",
            summary="Copy a preset to a file of your own, to change.",
        ),
        Verb(
            name="doctor",
            target="medssl.workflows.doctor.doctor",
            summary="Check this machine: versions, GPU, disk, system libraries, reading speed.",
        ),
    ),
)


def function_of(name: str) -> Callable[..., Any]:
    """Return the function that serves a verb, importing its module.

    Raises:
        ConfigError: There is no such verb.
    """
    found: Callable[..., Any] = VERBS.load(name)
    return found


def settings_of(name: str) -> type[Settings] | None:
    """Return the settings class of a verb, importing its module; None for a verb without settings.

    Raises:
        ConfigError: There is no such verb.
    """
    return VERBS.settings_class(name) if VERBS.row(name).settings else None
