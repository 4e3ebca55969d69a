"""The protocols of ``medssl evaluate --protocol`` by name: what each does, and for which kinds of data.

A new one is a function and its settings, a row here, and a field of its name in `EvaluateSettings`.
"""

from __future__ import annotations

from dataclasses import dataclass

from medssl.table import Row, Table

__all__ = ["PROTOCOLS", "Protocol"]


@dataclass(frozen=True, kw_only=True)
class Protocol(Row):
    """One protocol; ``target`` is its function ``(runs, *, data, out, settings, dry_run) -> Scored``.

    Attributes:
        summary: What it does, in one line.
        domains: Names of the kinds of data that it serves.
        shards: Whether its work can be shared out; its function then takes ``shard``, "i/k" or None, too.
    """

    summary: str
    domains: tuple[str, ...]
    shards: bool = False

    @property
    def group(self) -> str:
        """Its settings' name in `EvaluateSettings`."""
        return self.name.replace("-", "_")


PROTOCOLS = Table(
    "protocol",
    (
        Protocol(
            name="few-label",
            target="medssl.workflows.few_label.few_label",
            settings="medssl.workflows.evaluate_settings.FewLabelSettings",
            summary="Fine-tune pretrained encoders and scratch at n labelled patients, draw by draw, and compare.",
            domains=("volumes", "points"),
            shards=True,
        ),
        Protocol(
            name="probe",
            target="medssl.workflows.probe.probe",
            settings="medssl.workflows.evaluate_settings.ProbeSettings",
            summary="Read classes off frozen encoders, against random ones of their shape.",
            domains=("volumes", "points"),
        ),
        Protocol(
            name="dense-probe",
            target="medssl.workflows.dense_probe.DENSE_PROBE",
            settings="medssl.workflows.evaluate_settings.DenseProbeSettings",
            summary="Read structures off frozen encoders place by place, against random ones and no network.",
            domains=("volumes", "points"),
        ),
        Protocol(
            name="retrieval",
            target="medssl.workflows.retrieval.RETRIEVAL",
            settings="medssl.workflows.evaluate_settings.RetrievalSettings",
            summary="Find nearest patients by frozen features: are their structures as large, their classes the same?",
            domains=("volumes", "points"),
        ),
        Protocol(
            name="landmarks",
            target="medssl.workflows.landmarks.LANDMARKS",
            settings="medssl.workflows.evaluate_settings.PlaceSettings",
            summary="Find the centroids and extremes of structures again in other patients, by frozen features.",
            domains=("volumes", "points"),
        ),
        Protocol(
            name="one-shot",
            target="medssl.workflows.one_shot.ONE_SHOT",
            settings="medssl.workflows.evaluate_settings.OneShotSettings",
            summary="Carry the labels of one patient to others by frozen features, or by registration.",
            domains=("volumes", "points"),
        ),
        Protocol(
            name="prompt",
            target="medssl.workflows.prompt.PROMPT",
            settings="medssl.workflows.evaluate_settings.PlaceSettings",
            summary="Segment a structure from one place in it, by how alike features are.",
            domains=("volumes", "points"),
        ),
    ),
)
