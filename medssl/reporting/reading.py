"""Reading what a report is made of: which kind each given path is, what it holds, and what it names beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from medssl.domains.domain import domains
from medssl.engine.run import read_metrics
from medssl.errors import ConfigError, DataError, MedSSLError
from medssl.evaluation.score_table import COLUMNS, SCORES, ScoreTable
from medssl.reporting.material import Evaluation, Material, RunRecord, of_encoders
from medssl.reporting.scored import summary_of_table
from medssl.settings import flatten, load_yaml

__all__ = ["EMBEDDINGS", "gather", "kind_of"]

# What the protocols of `evaluate` write: comparisons of arms over numbers of labels or of frozen encoders.
_OVER_LABELS = (
    "few_label.json",
    "probe.json",
    "dense_probe.json",
    "one_shot.json",
    "landmarks.json",
    "prompt.json",
    "retrieval.json",
)
Kind = Literal["manifest", "check", "store", "clouds", "run", "evaluation", "score-table", "embeddings"]
_CURVES = ("segmentation", "classification")  # of which there are comparisons over numbers of labels
EMBEDDINGS = ("embeddings.parquet", "embeddings.npz", "features.parquet", "features.npz")
_ORIGIN = re.compile(r"^(?P<indent> *)(?P<key>[^\s:#][^:]*):(?P<value>.*?)(?:\s+# (?P<origin>.*))?$")


def gather(paths: Iterable[str | Path], *, follow: bool = True) -> Material:
    """Read what the paths hold.

    Args:
        paths: Manifests, their NAME-check.json, stores, runs, few-label comparisons, folders with scores, files of
            scores, embeddings.
        follow: Take the store and the pretraining run that a run names too, and the runs that it was compared with,
            where they are still there.

    Raises:
        DataError: A path is not there, or is none of these; or no path was given.
        ManifestError, CacheError, ConfigError: A given thing is damaged.
    """
    given = [Path(path) for path in paths]
    if not given:
        raise DataError("Nothing to report on. Name a run, a store, a manifest or a few-label comparison.")
    material = Material()
    seen: set[Path] = set()
    for path in given:
        for kind in kind_of(path):
            _READERS[kind](path, material)
        seen.add(path.resolve())
    material.drop_repeats()
    for folder, content in material.evaluations() if follow else ():
        for beside in (_beside(name, folder) for name in _named_runs(folder, content)):
            if beside is None or beside.resolve() in seen:
                continue
            if of_encoders(content) and not _is_pretrained(beside):
                continue  # an arm of the protocol, not the run of that name
            seen.add(beside.resolve())
            _read_run(beside, material)
    waiting = list(material.runs) if follow else []
    _follow(waiting, seen, material)
    material.runs.sort(key=lambda run: run.verb != "pretrain")
    return material


def _follow(waiting: list[RunRecord], seen: set[Path], material: Material) -> None:
    """Read the store and the pretraining run that runs name, where they are still there."""
    while waiting:
        run = waiting.pop(0)
        for key in ("transfer.run", "data.store"):
            named = str(run.settings.get(key) or "")
            beside = _found(named, run.folder)
            if beside is None or beside.resolve() in seen:
                continue
            seen.add(beside.resolve())
            before, scored = len(material.runs), {folder for folder, _ in material.evaluations()}
            try:
                for kind in kind_of(beside):
                    _READERS[kind](beside, material)
            except MedSSLError as error:
                material.notes.append(f"{run.name} names {beside.name}, which could not be read: {error}")
            material.followed |= {folder for folder, _ in material.evaluations()} - scored
            waiting += material.runs[before:]


def kind_of(path: Path) -> list[Kind]:
    """Return what a path is; a run with scores is both.

    Raises:
        DataError: It is not there, or nothing that a report knows.
    """
    found: list[Kind] = []
    if path.is_dir():
        names: dict[str, Kind] = {"store.json": "store", "clouds.json": "clouds", "run.yaml": "run"}
        names |= dict.fromkeys(_summaries(), "evaluation")
        found = list(dict.fromkeys(kind for name, kind in names.items() if (path / name).is_file()))
        if (path / SCORES).is_file() and "evaluation" not in found:
            found.append("score-table")
        if "run" not in found and any((path / name).is_file() for name in EMBEDDINGS):
            found.append("embeddings")
    elif path.is_file():
        if path.name in _summaries():
            found = ["evaluation"]
        elif path.name == "store.json":
            found = ["store"]
        elif path.suffix == ".json" and {"summary", "findings"} <= _json(path).keys():
            found = ["check"]
        elif path.suffix == ".npz":
            found = ["embeddings"]
        elif path.suffix == ".csv":
            found = ["manifest"]
        elif path.suffix == ".parquet":
            import polars

            columns = polars.read_parquet_schema(path)
            found = [
                "score-table" if tuple(columns) == COLUMNS else "embeddings" if "vector" in columns else "manifest"
            ]
    if not found:
        missing = "is not there" if not path.exists() else "is none of these"
        raise DataError(
            f"{path}: a report is made of runs (run.yaml), stores (store.json), manifests (.parquet, .csv), "
            f"NAME-check.json, few-label comparisons (few_label.json), probes (probe.json), "
            f"{', '.join(list(_summaries())[: -len(_OVER_LABELS)])}, {SCORES} and embeddings. This {missing}."
        )
    return found


@cache
def _summaries() -> dict[str, str]:
    """Return the file that each task's scores are summed up in, and its kind; then those over numbers of labels."""
    tasks = [domain.task(name) for domain in domains() for name in domain.tasks]
    return {task.summary: task.kind for task in tasks} | dict.fromkeys(_OVER_LABELS, "")


def _read_manifest(path: Path, material: Material) -> None:
    from medssl.manifest.schema import read_manifest

    material.manifests[_own_name(path, material.manifests)] = read_manifest(path)


def _read_check(path: Path, material: Material) -> None:
    material.checks[_own_name(path, material.checks)] = _json(path)


def _read_store(path: Path, material: Material) -> None:
    from medssl.store.read import Store

    folder = path if path.is_dir() else path.parent
    material.stores[folder] = Store.open(folder)


def _read_run(path: Path, material: Material) -> None:
    settings = flatten(load_yaml(path / "run.yaml"))
    if "transfer.run" in settings:
        verb: Literal["pretrain", "finetune"] = "finetune"
    elif "method.name" in settings:
        verb = "pretrain"
    else:
        raise ConfigError(f"{path / 'run.yaml'}: neither the settings of pretrain nor those of finetune.")
    run = RunRecord(
        name=path.resolve().name,
        folder=path,
        verb=verb,
        settings=settings,
        origins=_origins(path / "run.yaml"),
        environment=_json(path / "environment.json"),
        card=_json(path / "card.json"),
        rows=read_metrics(path),
        transfer=_json(path / "transfer.json"),
        validation=_json(path / "validation.json"),
    )
    if all(run.folder.resolve() != other.folder.resolve() for other in material.runs):
        material.runs.append(run)
        _read_embeddings(path, material)


def _read_table(path: Path, material: Material) -> None:
    """Read scores.parquet: by the summary that lies beside it, else by what its rows say."""
    folder = path if path.is_dir() else path.parent
    if path.name == SCORES and "evaluation" in kind_of(folder):
        _read_evaluations(folder, material)
        return
    file = folder / SCORES if path.is_dir() else path
    content = summary_of_table(file)
    if file.name != SCORES:
        material.notes.append(f"{file.name}: rows of scores without their summary; what was asked is read off the rows")
    several = len({(row["labels"], len(row["draw_means"])) for row in content["scores"]} | {(None, 1)}) > 2
    material.evaluated.append(Evaluation(folder, content, over_labels=several and content["kind"] in _CURVES))


def _read_clouds(path: Path, material: Material) -> None:
    material.cloud_stores[path] = _json(path / "clouds.json")


def _read_evaluations(path: Path, material: Material) -> None:
    """Read a summary, or all of a folder."""
    for file in [path / name for name in _summaries() if (path / name).is_file()] if path.is_dir() else [path]:
        kind = _summaries()[file.name]
        content = ({"kind": kind} if kind else {}) | _json(file)
        material.evaluated.append(Evaluation(file.parent, content, over_labels=not kind))


def _read_embeddings(path: Path, material: Material) -> None:
    if path.is_file():
        material.embeddings[_own_name(path, material.embeddings)] = path
        return
    for name in EMBEDDINGS:
        if (path / name).is_file():
            material.embeddings[path.resolve().name] = path / name
            return


_READERS: dict[Kind, Callable[[Path, Material], None]] = {
    "manifest": _read_manifest,
    "check": _read_check,
    "store": _read_store,
    "run": _read_run,
    "evaluation": _read_evaluations,
    "score-table": _read_table,
    "clouds": _read_clouds,
    "embeddings": _read_embeddings,
}


def _is_pretrained(folder: Path) -> bool:
    return "method.name" in flatten(load_yaml(folder / "run.yaml"))


def _named_runs(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """Return the names of the runs that were scored."""
    try:
        return ScoreTable.read(folder / SCORES).runs
    except DataError:
        return list(content.get("runs", {}))


def _own_name(path: Path, taken: Mapping[str, Any]) -> str:
    """Return a file's name, with its folders in front where another file is called that: none is lost."""
    parts = path.resolve().parts
    names = ("/".join(parts[-count:]) for count in range(1, len(parts)))
    return next(name for name in names if name not in taken)


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty where there is no file.

    Raises:
        DataError: It is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}). Run the verb that wrote it again.") from error
    return content if isinstance(content, dict) else {}


def _origins(path: Path) -> dict[str, str]:
    """Return the comment at the end of each line of run.yaml, by dotted key."""
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _ORIGIN.match(line)
        if match is None:
            continue
        depth = len(match["indent"])
        parents = [parent for parent in parents if parent[0] < depth]
        key = ".".join([name for _, name in parents] + [match["key"]])
        if match["value"].strip() or match["origin"]:
            found[key] = match["origin"] or ""
        else:
            parents.append((depth, match["key"]))
    return found


def _found(named: str, beside: Path) -> Path | None:
    """Return a folder that a run names, as it is seen from here or from the folder of runs."""
    if not named:
        return None
    if Path(named).is_absolute():
        return Path(named) if Path(named).is_dir() else None
    own = beside.resolve() / named  # as runs keep absolute paths
    candidates = [own, Path(named)] if named.startswith("..") else [Path(named), own]
    if not named.startswith(".."):
        candidates += [parent / named for parent in list(beside.resolve().parents)[:3]]
    return next((path for path in candidates if path.is_dir()), None)


def _beside(name: str, scored: Path) -> Path | None:
    """Return the run that an evaluation in the folder ``scored`` calls ``name``."""
    around = (scored.resolve(), *list(scored.resolve().parents)[:3])
    folders = [folder for parent in around for folder in (parent / name, parent / "runs" / name)]
    return next((folder for folder in folders if (folder / "run.yaml").is_file()), None)
