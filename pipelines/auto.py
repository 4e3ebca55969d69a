"""``medssl auto``: the whole chain on a folder of scans, with defaults that it explains."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import DataError
from medssl.settings import flatten, resolve
from pipelines import console
from pipelines.auto_decisions import (
    Decision,
    Grid,
    Machine,
    Recipe,
    decide_recipe,
    decide_spacing,
    describe_modalities,
    grid_of,
)
from pipelines.auto_settings import BUDGETS, AutoSettings
from pipelines.auto_split import settle_split
from pipelines.auto_stages import Stagehand, Stages, key_of
from pipelines.verbs import function_of

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.store.read import Store

__all__ = ["AutoResult", "AutoSettings", "auto"]


@dataclass(frozen=True, kw_only=True)
class AutoResult:
    """What ``medssl.auto(...)`` returns.

    Attributes:
        folder: Where everything lies.
        decisions: What was chosen, and why.
        encoder: The pretraining run; None after a dry run.
        pretrained: The fine-tuning run from the pretrained encoder; None without labels.
        scratch: The same from fresh weights; None where nothing can be scored.
        comparison: Dice of both with intervals, and their difference; empty where nothing can be scored.
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
    def ok(self) -> bool:
        """Whether every stage went through."""
        return not self.failed


def auto(
    scans: str | Path,
    *,
    out: str | Path,
    budget: str | None = None,
    method: str | None = None,
    labels: int | None = None,
    export: Sequence[str] = (),
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    dry_run: bool = False,
) -> AutoResult:
    """Take a folder of scans the whole way: manifest, checks, store, encoder, segmenter against scratch, report.

    The same call goes on where an earlier one stopped, however it was stopped: a stage whose inputs have not changed
    is not done again, a training run that was killed resumes. Where inputs have changed, old runs are moved aside.

    Args:
        scans: A folder of scans, or a CSV that lists them; whatever ``index`` takes.
        out: The folder for everything that is made.
        budget: "minutes", "small", "medium" or "large": how much is trained.
        method: Pretraining method; decided from the scans when None.
        labels: Patients whose labels fine-tuning uses; all training patients when None.
        export: Forms that the segmenter is exported to at the end, such as "onnx" and "monai".
        preset: Settings by name or file.
        overrides: ``key=value``; see ``medssl show auto``.
        overwrite: Train anew; earlier runs are moved aside, nothing is deleted.
        dry_run: Say what would be decided, from headers alone; write nothing.

    Returns:
        Where everything is, what was decided, and how the encoder compares.

    Raises:
        ConfigError: A setting is wrong.
        DataError: There is no scan that can be used.
        Interrupted: Training was told to stop; the same call goes on.
    """
    options = {"budget": budget, "method": method, "labels": labels, "export": tuple(export) or None}
    settings = resolve(AutoSettings, preset=preset, overrides=list(overrides), command_line=options).settings
    chain = _Chain(Path(scans), Path(out), settings, overwrite=overwrite)
    return chain.plan() if dry_run else chain.run()


class _Chain:
    """The stages in their order, over one folder."""

    def __init__(self, scans: Path, out: Path, settings: AutoSettings, *, overwrite: bool) -> None:
        self.scans, self.out, self.settings = scans, out, settings
        self.machine = Machine.here()
        self.small = BUDGETS[settings.budget].small or not self.machine.gpu
        self.hand = Stagehand(Stages(out / "stages.json"), anew=overwrite)
        self.decisions: list[Decision] = []
        self.manifest_file, self.store_folder = out / "manifest.parquet", out / "store"
        self.encoder, self.pretrained, self.scratch = (out / "runs" / name for name in _RUNS)

    def plan(self) -> AutoResult:
        """Say what would be decided, from headers."""
        from medssl.manifest.build import build_manifest

        settings = self.settings
        manifest, _ = build_manifest(
            self.scans,
            depth="header",
            modality=settings.modality,
            patient_pattern=settings.patient_pattern,
            val=settings.val,
            test=settings.test,
            seed=settings.seed,
        )
        manifest = self._settle(manifest)
        grids = [grid for row in manifest.usable().rows() if (grid := grid_of(row)) is not None]
        spacing, decision = decide_spacing(grids, settings, small=self.small)
        self.decisions.append(decision)
        recipe = decide_recipe([_resized(g, spacing, grids) for g in grids], settings, self.machine,
                               patients=self._training_patients(manifest))  # fmt: skip
        self.decisions.extend(recipe.decisions)
        self._show_decisions("What would be decided, from headers alone")
        console.done(None, shlex.join(["medssl", "auto", str(self.scans), "--out", str(self.out)]))
        return AutoResult(folder=self.out, decisions=tuple(self.decisions))

    def run(self) -> AutoResult:
        """Do every stage that is not done."""
        manifest = self._index()
        self._check(manifest)
        store = self._cache(manifest)
        recipe = self._recipe(store)
        self._write_decisions(recipe)
        self._pretrain(store, recipe)
        labelled = {split: _labelled(store, split) for split in ("train", "test")}
        if not labelled["train"]:
            return self._without_labels()
        paired = bool(labelled["test"])
        self._finetune(store, recipe, from_scratch=False)
        comparison: dict[str, Any] = {}
        if paired:
            self._finetune(store, recipe, from_scratch=True)
            comparison = self._evaluate()
        else:
            console.warn(
                "no labelled patient is left to test on, so nothing is compared; two labelled patients would do"
            )
        report = self._report(self.pretrained, *([self.scratch] if paired else []), self.encoder)
        for form in self.settings.export:
            self._export(form)
        segmenter = str(self.out / "segmenter.onnx")
        self._close(report, comparison, ["medssl", "export", str(self.pretrained), "--to", "onnx", "--out", segmenter])
        return AutoResult(
            folder=self.out,
            decisions=tuple(self.decisions),
            encoder=self.encoder,
            pretrained=self.pretrained,
            scratch=self.scratch if paired else None,
            comparison=comparison,
            report=report,
            failed=self.hand.failed,
        )

    # ---- data

    def _index(self) -> Manifest:
        from medssl.manifest.schema import write_manifest

        settings = self.settings
        words = [f"modality={settings.modality}"] if settings.modality else []
        words += [f"patient_pattern={settings.patient_pattern}"] if settings.patient_pattern else []
        words += [f"val={settings.val}", f"test={settings.test}", f"seed={settings.seed}"]
        words += [f"workers={settings.workers}"] if settings.workers else []
        self.hand.head("index", "describe every scan, one row a scan")
        self.hand.command("index", self.scans, *words, "--out", self.manifest_file)
        with console.part("index"):
            manifest: Manifest = function_of("index")(self.scans, out=self.manifest_file, overrides=words)
        settled = self._settle(manifest)
        console.say(f"split that is used: {next(d.chosen for d in self.decisions if d.what == 'split')}")
        if not settled.frame.equals(manifest.frame):
            write_manifest(settled, self.manifest_file)
        return settled

    def _settle(self, manifest: Manifest) -> Manifest:
        """Return the manifest with the split that is used; add what it means to the decisions."""
        settings = self.settings
        volumes = [row for row in manifest.rows() if row["error"] is None and row["kind"] == "volume"]
        if not volumes:
            raise DataError(
                f"{self.scans}: none of the {len(manifest)} scans can be used. The reasons are listed above, and in "
                f"full by: medssl index {shlex.quote(str(self.scans))} --out manifest.parquet"
            )
        counts: dict[str, int] = {}
        for row in volumes:
            name = "CT" if row["units"] == "HU" else row["modality"]
            counts[name] = counts.get(name, 0) + 1
        self.decisions += describe_modalities(counts)
        settled, decision = settle_split(manifest, val=settings.val, test=settings.test, seed=settings.seed)
        self.decisions.append(decision)
        used = len({row["patient"] for row in settled.labelled().rows() if row["split"] == "train"})
        if used:
            asked = settings.labels is not None and settings.labels < used
            few = f"{settings.labels} of {used} patients" if asked else f"all {used} patients"
            why = f"as set, draw {settings.draw}" if asked else "every label helps; labels=N takes fewer"
            self.decisions.append(Decision("labels to fine-tune on", few, why))
        return settled

    def _check(self, manifest: Manifest) -> None:
        def work() -> None:
            result = function_of("check")(self.manifest_file)
            if not result.ok:
                console.warn(f"{result.count('error')} errors were found; going on with the scans that can be read")

        self.hand.late(
            "check",
            "look for damage, copies, leaks and odd labels",
            key=_manifest_key(manifest),
            output=self.out / "check.html",
            command=["check", self.manifest_file],
            work=work,
        )

    def _cache(self, manifest: Manifest) -> Store:
        from medssl.store.read import Store

        grids = [grid for row in manifest.usable().rows() if (grid := grid_of(row)) is not None]
        spacing, decision = decide_spacing(grids, self.settings, small=self.small)
        self.decisions.append(decision)
        words = [f"spacing_mm={_word(spacing)}", *([f"workers={w}"] if (w := self.settings.workers) else [])]
        key = key_of(_manifest_key(manifest), words[0])
        self.hand.head("cache", "store the scans for reading by windows")
        if self.hand.ready("cache", key, self.store_folder / "store.json"):
            return Store.open(self.store_folder)
        self.hand.command("cache", self.manifest_file, "--out", self.store_folder, *words)
        with console.part("cache"):
            store: Store = function_of("cache")(self.manifest_file, out=self.store_folder, overrides=words)
        self.hand.stages.finish("cache", key)
        return store

    def _recipe(self, store: Store) -> Recipe:
        bodies = []
        for entry in store.entries:
            low, high = entry.body_box
            z, y, x = (b - a for a, b in zip(low, high, strict=True))
            bodies.append(Grid((z, y, x), entry.spacing_mm))
        patients = len({entry.patient or entry.id for entry in store.entries if entry.split in ("train", "")})
        recipe = decide_recipe(bodies, self.settings, self.machine, patients=patients)
        self.decisions.extend(recipe.decisions)
        return recipe

    def _write_decisions(self, recipe: Recipe) -> None:
        from medssl.writing import written_aside

        self._show_decisions("What was decided, and why")
        content = {
            "scans": str(self.scans),
            "settings": self.settings.model_dump(mode="json"),
            "decisions": [vars(decision) for decision in self.decisions],
            "pretrain": {"preset": recipe.preset, **recipe.pretrain},
            "finetune": {"preset": recipe.finetune_preset, **recipe.finetune},
        }
        with written_aside(self.out / "decisions.json") as aside:
            aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    # ---- training

    def _pretrain(self, store: Store, recipe: Recipe) -> None:
        words = _words({**recipe.pretrain, **flatten(self.settings.pretrain)})
        key = key_of(_store_key(store, labels=False), recipe.preset, words)
        self.hand.head("pretrain", "learn from the scans themselves, without labels")
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

    def _finetune(self, store: Store, recipe: Recipe, *, from_scratch: bool) -> None:
        out = self.scratch if from_scratch else self.pretrained
        settings = self.settings
        words = _words({**recipe.finetune, **flatten(settings.finetune)})
        if settings.labels is not None:
            words += [f"data.draw={settings.draw}"]
        labels = self._usable_labels(store)
        key = key_of(
            self.hand.stages.key_after("pretrain"), _store_key(store, labels=True), recipe.finetune_preset,
            words, labels, from_scratch,
        )  # fmt: skip
        start = "from fresh weights, with the same recipe" if from_scratch else "from the pretrained encoder"
        self.hand.head(out.name, f"learn to segment {start}")
        if self.hand.ready(out.name, key, out / "network.safetensors"):
            return
        chosen = ["--labels", labels] if labels is not None else []
        fresh = ["--from-scratch"] if from_scratch else []
        self.hand.command("finetune", self.encoder, "--data", self.store_folder, "--out", out, "--preset",
                      recipe.finetune_preset, *chosen, *fresh, *words)  # fmt: skip
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

    def _usable_labels(self, store: Store) -> int | None:
        """Return how many patients' labels to ask for: no more than there are."""
        if self.settings.labels is None:
            return None
        there = len({e.patient or e.id for e in store.entries if e.label_file is not None and e.split in ("train", "")})
        if there < self.settings.labels:
            console.warn(f"labels={self.settings.labels} was asked for, and {there} training patients have labels")
        return min(self.settings.labels, there)

    # ---- results

    def _evaluate(self) -> dict[str, Any]:
        """Score both arms; return the comparison, empty where scoring failed."""
        from pipelines.auto_outcome import outcome_of

        scores = self.pretrained / "scores.json"
        self.hand.late(
            "evaluate",
            "score both on test patients, and test the difference",
            key=self.hand.stages.key_after("pretrained", "scratch"),
            output=scores,
            command=["evaluate", self.pretrained, "--data", self.store_folder, "--against", self.scratch],
            work=lambda: function_of("evaluate")(self.pretrained, data=self.store_folder, against=[self.scratch]),
        )
        if "evaluate" in self.hand.failed:
            return {}
        outcome = outcome_of(scores, arm="pretrained", baseline="scratch")
        console.tell(outcome=outcome.facts)
        return outcome.facts | {"sentence": outcome.sentence}

    def _embed(self) -> Path:
        vectors = self.out / "vectors.parquet"
        self.hand.late(
            "embed",
            "one vector for every scan",
            key=self.hand.stages.key_after("cache", "pretrain"),
            output=vectors,
            command=["embed", self.encoder, "--data", self.store_folder, "--out", vectors],
            work=lambda: function_of("embed")(self.encoder, data=self.store_folder, out=vectors),
        )
        return vectors

    def _report(self, *material: Path) -> Path | None:
        page = self.out / "report.html"
        there = [path for path in (*material, self.out / "check.json") if path.exists()]
        self.hand.late(
            "report",
            "one page with pictures, curves and scores",
            key=key_of(self.hand.stages.key_after(*_REPORTED), *there),
            output=page,
            command=["report", *there, "--out", page],
            work=lambda: function_of("report")(*there, out=page),
        )
        return None if "report" in self.hand.failed else page

    def _export(self, form: str) -> None:
        target = self.out / "export" / ("segmenter.onnx" if form == "onnx" else form)
        self.hand.late(
            f"export-{form}",
            "the segmenter for other programs",
            key=self.hand.stages.key_after("pretrained"),
            output=target,
            command=["export", self.pretrained, "--to", form, "--out", target],
            work=lambda: function_of("export")(self.pretrained, to=form, out=target),
        )

    def _without_labels(self) -> AutoResult:
        """Close a chain on scans of which none has labels to train on."""
        vectors = self._embed()
        report = self._report(self.encoder, vectors)
        console.say("")
        console.say(
            "No scan to train on has labels, so the chain ends with the encoder. To go on, put label maps beside a few "
            "scans (NAME_seg.nii.gz beside NAME.nii.gz, or labelsTr/NAME beside imagesTr/NAME) and run the same "
            "command: what is done is kept."
        )
        self._close(report, {}, ["medssl", "auto", str(self.scans), "--out", str(self.out)])
        return AutoResult(folder=self.out, decisions=tuple(self.decisions), encoder=self.encoder, report=report,
                          failed=self.hand.failed)  # fmt: skip

    def _close(self, report: Path | None, comparison: dict[str, Any], following: Sequence[str]) -> None:
        if comparison:
            console.say("")
            console.say(comparison["sentence"])
        for name, reason in self.hand.failed.items():
            console.warn(f"the stage '{name}' failed, and everything before it is there: {reason}")
        console.tell(failed=self.hand.failed)
        console.done([path for path in (self.encoder, report) if path is not None], shlex.join(following))

    def _show_decisions(self, title: str) -> None:
        console.say("")
        rows = [(d.what, d.chosen, d.because) for d in self.decisions]
        console.table(title, ("of", "chosen", "because"), rows, key="decisions")

    def _training_patients(self, manifest: Manifest) -> int:
        return len({row["patient"] for row in manifest.usable().rows() if row["split"] in ("train", "")})


_RUNS = ("encoder", "pretrained", "scratch")
_REPORTED = ("check", "pretrain", "pretrained", "scratch", "evaluate", "embed")  # stages whose results a report shows


def _labelled(store: Store, split: str) -> list[str]:
    return [e.id for e in store.entries if e.label_file is not None and (e.split or "train") == split]


def _resized(grid: Grid, spacing: Any, grids: Sequence[Grid]) -> Grid:
    """Return a scan's grid at the store's voxel size."""
    if spacing == "keep":
        return grid
    if spacing == "median":
        ordered = [sorted(g.spacing_mm[axis] for g in grids)[len(grids) // 2] for axis in range(3)]
        spacing = ordered
    z, y, x = (max(1, round(n * own / new)) for n, own, new in zip(grid.shape, grid.spacing_mm, spacing, strict=True))
    return Grid((z, y, x), (spacing[0], spacing[1], spacing[2]))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _words(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={_word(value)}" for key, value in settings.items()]


def _manifest_key(manifest: Manifest) -> str:
    columns = ("id", "path", "file_hash", "size_bytes", "mtime_ns", "label_path", "label_mtime_ns", "split", "error")
    return key_of([[row[name] for name in columns] for row in manifest.rows()], manifest.classes)


def _store_key(store: Store, *, labels: bool) -> str:
    names = ("id", "file", "split", "patient", *(("label_file",) if labels else ()))
    rows = [[getattr(entry, name) for name in names] for entry in store.entries]
    return key_of(rows, store.settings, store.classes if labels else None)
