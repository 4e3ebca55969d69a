"""The stages of ``medssl auto`` in their order, over one folder; the domain decides what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.chains.auto_outcome import outcome_of
from medssl.chains.auto_settings import AutoSettings
from medssl.chains.auto_stages import StageRunner
from medssl.command import Command
from medssl.domains.deciding import BUDGETS, Decision, Machine, Recipe, key_of, word
from medssl.domains.domain import Domain
from medssl.engine.kept_paths import kept_value
from medssl.errors import ConfigError
from medssl.evaluation.statistics.summary_file import FORMAT
from medssl.regions import regions_json
from medssl.settings import Resolved, flatten
from medssl.workflows import events
from medssl.workflows.export_targets import EXPORTS, export_to
from medssl.workflows.predict_command import predict_command
from medssl.workflows.result import Result
from medssl.workflows.verbs import function_of

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = ["AutoChain", "AutoResult", "words_of"]


@dataclass(frozen=True, kw_only=True)
class AutoResult(Result):
    """What ``medssl.auto(...)`` returns.

    Attributes:
        folder: Where everything lies.
        decisions: What was chosen, and why.
        encoder: The pretraining run; None after a dry run.
        pretrained: The fine-tuning run from the pretrained encoder; None without labels.
        scratch: The same from scratch; None where nothing can be scored.
        comparison: Score of both with intervals, and their difference; empty where nothing can be scored.
        report: The report; None where it failed.
        failed: Late stages that failed, and why; everything before them is there.
    """

    folder: Path
    decisions: tuple[Decision, ...]
    encoder: Path | None = None
    pretrained: Path | None = None
    scratch: Path | None = None
    comparison: dict[str, Any] = field(default_factory=dict)
    report: Path | None = None
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Path | None:
        """The fine-tuned run, without labels the pretraining run; None after a dry run."""
        return self.pretrained or self.encoder

    @property
    def ok(self) -> bool:
        """Whether every stage went through."""
        return not self.failed


class AutoChain:
    """The stages in their order, over one folder.

    Args:
        domain: The kind of data.
        scans: What is trained on, as the user named it.
        out: The output folder.
        resolved: Settings of the whole chain.
        hand: Runs the stages.

    Raises:
        ConfigError: A setting was given that means nothing for this kind of data.
    """

    def __init__(
        self, domain: Domain, scans: Path, out: Path, resolved: Resolved[AutoSettings], hand: StageRunner
    ) -> None:
        settings, machine = resolved.settings, Machine.here()
        small = BUDGETS[settings.budget].small or not machine.gpu
        self.domain, self.deciding = domain, domain.deciding(settings, machine, small=small)
        given = [key for key in self.deciding.foreign if resolved.origins.get(key, "default") != "default"]
        if given:
            raise ConfigError(
                f"{scans} holds {domain.noun}s, and {', '.join(given)} means nothing for them. Leave it out."
            )
        self.scans, self.out, self.settings, self.hand = scans, out, settings, hand
        self.decisions = self.deciding.decisions
        self.manifest_file, self.store_folder = out / "manifest.parquet", out / "store"
        self.encoder, self.pretrained, self.scratch = (out / "runs" / name for name in _RUNS)

    # ---- the flow

    def plan(self, manifest: Manifest) -> AutoResult:
        """Say what would be decided, from headers."""
        settled = self.deciding.settle(manifest)
        self.deciding.cache_words(settled)
        self.decisions.extend(self.deciding.recipe_before(settled).decisions)
        self._show_decisions("What would be decided, from headers alone")
        return events.written(AutoResult(folder=self.out, decisions=tuple(self.decisions), next=self._again()))

    def run(self, manifest: Manifest) -> AutoResult:
        """Do every stage after the index that is not done."""
        from medssl.manifest.schema import write_manifest

        settled = self.deciding.settle(manifest)
        events.message(f"split used: {next(d.chosen for d in self.decisions if d.what == 'split')}")
        if not settled.frame.equals(manifest.frame):
            write_manifest(settled, self.manifest_file)
        self._check(settled)
        store = self._cache(settled)
        recipe = self.deciding.recipe(store)
        self.decisions.extend(recipe.decisions)
        self._write_decisions(recipe)
        self._pretrain(store, recipe)
        labelled = {split: self._labelled(store, split) for split in ("train", "test")}
        if not labelled["train"] or not recipe.finetune_preset:
            return self._without_labels()
        paired = bool(labelled["test"])
        self._finetune(store, recipe, from_scratch=False)
        comparison: dict[str, Any] = {}
        if paired:
            self._finetune(store, recipe, from_scratch=True)
            comparison = self._evaluate()
        else:
            events.warning(
                "no labelled patient is left for testing, so nothing is compared; this needs at least two labelled "
                "patients"
            )
        report = self._report(self.pretrained, *([self.scratch] if paired else []), self.encoder)
        self._export(self.pretrained, "network")
        return self._closed(
            report,
            self.deciding.following(self.pretrained, self.encoder, self.store_folder),
            on_new=predict_command(self.pretrained) if comparison else Command(),
            pretrained=self.pretrained,
            scratch=self.scratch if paired else None,
            comparison=comparison,
        )

    # ---- data

    def _check(self, manifest: Manifest) -> None:
        def work() -> None:
            result = function_of("check")(self.manifest_file)
            if not result.ok:
                events.warning(
                    f"{result.count('error')} errors were found; auto continues with the {self.domain.noun}s that can "
                    "be read"
                )

        self.hand.late(
            "check",
            "check for damage, copies, leaks and odd labels",
            key=_manifest_key(manifest),
            output=self.out / "manifest-check.html",
            command=["check", self.manifest_file],
            work=work,
        )

    def _cache(self, manifest: Manifest) -> Any:
        told = self.deciding.cache_words(manifest)
        words = [*told, *([f"workers={w}"] if (w := self.settings.workers) else [])]
        key = key_of(_manifest_key(manifest), *told)
        self.hand.head("cache", f"store the {self.domain.noun}s for fast reading")
        if self.hand.ready("cache", key, self.store_folder / self.domain.listing):
            return self.domain.open(self.store_folder)
        self.hand.command("cache", self.manifest_file, "--out", self.store_folder, *words)
        with events.part("cache"):
            function_of("cache")(self.manifest_file, out=self.store_folder, overrides=words)
        self.hand.stages.finish("cache", key)
        return self.domain.open(self.store_folder)

    def _write_decisions(self, recipe: Recipe) -> None:
        from medssl.writing import atomic_write

        self._show_decisions("Choices and reasons")
        content = {
            # Neither the folder of scans nor the table of classes: their names may be of people.
            "settings": kept_value(self.settings.model_dump(mode="json", exclude={"targets"}), self.out),
            "decisions": [vars(decision) for decision in self.decisions],
            "pretrain": {"preset": recipe.preset, **recipe.pretrain},
            "finetune": {"preset": recipe.finetune_preset, **recipe.finetune},
        }
        with atomic_write(self.out / "decisions.json") as aside:
            aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    # ---- training

    def _pretrain(self, store: Any, recipe: Recipe) -> None:
        words = words_of({**recipe.pretrain, **flatten(self.settings.pretrain)})
        key = key_of(self.deciding.store_key(store, labels=False), recipe.preset, words)
        self.hand.head("pretrain", f"learn from the {self.domain.noun}s themselves, without labels")
        if self.hand.ready("pretrain", key, self.encoder / "encoder.safetensors"):
            return
        self.hand.command("pretrain", recipe.preset, "--data", self.store_folder, "--out", self.encoder, *words)
        self.hand.train(
            "pretrain",
            key,
            self.encoder,
            lambda how: function_of("pretrain")(
                recipe.preset, data=self.store_folder, out=self.encoder, overrides=words, **how
            ),
        )

    def _finetune(self, store: Any, recipe: Recipe, *, from_scratch: bool) -> None:
        out = self.scratch if from_scratch else self.pretrained
        settings = self.settings
        words = words_of({**recipe.finetune, **flatten(settings.finetune)})
        if settings.labels is not None:
            words += [f"data.draw={settings.draw}"]
        labels = self._usable_labels(store)
        key = key_of(
            self.hand.stages.key_after("pretrain"),
            self.deciding.store_key(store, labels=True),
            recipe.finetune_preset,
            words,
            labels,
            from_scratch,
        )
        start = "from random initialization, with the same recipe" if from_scratch else "from the pretrained encoder"
        self.hand.head(out.name, f"learn to {recipe.learns} {start}")
        if self.hand.ready(out.name, key, out / "network.safetensors"):
            return
        chosen = ["--labels", labels] if labels is not None else []
        fresh = ["--from-scratch"] if from_scratch else []
        told = ["--data", self.store_folder, "--out", out, "--preset", recipe.finetune_preset]
        self.hand.command("finetune", self.encoder, *told, *chosen, *fresh, *words)
        self.hand.train(
            out.name,
            key,
            out,
            lambda how: function_of("finetune")(
                self.encoder,
                data=self.store_folder,
                out=out,
                preset=recipe.finetune_preset,
                overrides=words,
                from_scratch=from_scratch or None,
                labels=labels,
                **how,
            ),
        )

    def _labelled(self, store: Any, split: str) -> set[str]:
        """Return the patients with labels in a split; scans of no split count as training ones."""
        return {
            e.patient or e.id for e in store.entries if self.deciding.has_label(e) and (e.split or "train") == split
        }

    def _usable_labels(self, store: Any) -> int | None:
        """Return how many patients' labels to ask for: no more than there are."""
        if self.settings.labels is None:
            return None
        there = len(self._labelled(store, "train"))
        if there < self.settings.labels:
            events.warning(f"labels={self.settings.labels} was set, but only {there} training patients have labels")
        return min(self.settings.labels, there)

    # ---- results

    def _evaluate(self) -> dict[str, Any]:
        """Score both arms; return the comparison, empty where scoring failed."""
        scores = self.pretrained / self.domain.task(self.deciding.task).summary
        self.hand.late(
            "evaluate",
            f"score both runs on the test {self.domain.noun}s, and test the difference",
            key=key_of(self.hand.stages.key_after("pretrained", "scratch"), FORMAT),  # older scores are made anew
            output=scores,
            command=["evaluate", self.pretrained, "--data", self.store_folder, "--against", self.scratch],
            work=lambda: function_of("evaluate")(self.pretrained, data=self.store_folder, against=[self.scratch]),
        )
        if "evaluate" in self.hand.failed:
            return {}
        outcome = outcome_of(scores, arm="pretrained", baseline="scratch")
        events.facts(outcome=outcome.facts)
        return outcome.facts | {"sentence": outcome.sentence}

    def _embed(self) -> Path:
        vectors = self.out / "vectors.parquet"
        self.hand.late(
            "embed",
            f"one vector for every {self.domain.noun}",
            key=self.hand.stages.key_after("cache", "pretrain"),
            output=vectors,
            command=["embed", self.encoder, "--data", self.store_folder, "--out", vectors],
            work=lambda: function_of("embed")(self.encoder, data=self.store_folder, out=vectors),
        )
        return vectors

    def _report(self, *material: Path) -> Path | None:
        page = self.out / "report.html"
        there = [path for path in (*material, self.out / "manifest-check.json") if path.exists()]
        self.hand.late(
            "report",
            "one page with pictures, curves and scores",
            key=key_of(self.hand.stages.key_after(*_REPORTED), *there),
            output=page,
            command=["report", *there, "--out", page],
            work=lambda: function_of("report")(*there, out=page),
        )
        return None if "report" in self.hand.failed else page

    def _export(self, run: Path, name: str) -> None:
        """Write a run's network in every form that was asked for."""
        for form in self.settings.export:
            target = export_to(form, self.out / "export" / (name if EXPORTS[form].suffixes else form))
            self.hand.late(
                f"export-{form}",
                "the network for other programs",
                key=self.hand.stages.key_after("pretrain" if run == self.encoder else "pretrained"),
                output=target,
                command=["export", run, "--to", form, "--out", target],
                work=partial(function_of("export"), run, to=form, out=target),
            )

    def _without_labels(self) -> AutoResult:
        """Close a chain on scans of which none has labels to train on."""
        vectors = self._embed()
        report = self._report(self.encoder, vectors)
        events.message("")
        events.message(self.deciding.unlabelled)
        self._export(self.encoder, "encoder")
        return self._closed(report, self._again())

    def _closed(self, report: Path | None, following: Command, **found: Any) -> AutoResult:
        """Say how all of it ended."""
        if found.get("comparison"):
            events.message("")
            events.message(found["comparison"]["sentence"])
        for name, reason in self.hand.failed.items():
            events.warning(f"the stage '{name}' failed; the results of earlier stages are kept: {reason}")
        return events.written(
            AutoResult(
                folder=self.out,
                decisions=tuple(self.decisions),
                encoder=self.encoder,
                report=report,
                failed=self.hand.failed,
                written=tuple(path for path in (self.encoder, report) if path is not None),
                next=following,
                figures={"failed": self.hand.failed},
                **found,
            )
        )

    def _again(self) -> Command:
        return Command("auto", self.scans, "--out", self.out)

    def _show_decisions(self, title: str) -> None:
        events.message("")
        rows = [(d.what, d.chosen, d.because) for d in self.decisions]
        events.table(title, ("setting", "choice", "reason"), rows, key="decisions")


_RUNS = ("encoder", "pretrained", "scratch")
_REPORTED = ("check", "pretrain", "pretrained", "scratch", "evaluate", "embed")  # stages whose results a report shows


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as ``key=value``."""
    return [f"{key}={word(value)}" for key, value in settings.items()]


def _manifest_key(manifest: Manifest) -> str:
    columns = (
        "id",
        "path",
        "file_hash",
        "size_bytes",
        "mtime_ns",
        "label_path",
        "label_mtime_ns",
        "label_file_hash",
        "targets",
        "split",
        "error",
    )
    cases = [[row["case"], row["channel"]] for row in manifest.rows() if row["case"]]
    more = [cases, list(manifest.settings.get("channels", ()))] if cases else []
    return key_of([[row[name] for name in columns] for row in manifest.rows()], _meaning(manifest), *more)


def _meaning(manifest: Manifest) -> Any:
    """Return what label values mean, as far as a store depends on it."""
    said: list[Any] = [manifest.classes]
    if manifest.ignored or manifest.regions:
        said += [list(manifest.ignored), regions_json(manifest.regions)]
    return said
