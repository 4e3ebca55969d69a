"""The manifest: one row a scan, as a polars table with fixed columns, kept as Parquet or CSV.

Shapes and spacings are lists in the order (z, y, x), affines sixteen numbers row by row. Parquet holds everything in
one file; CSV holds the lists as JSON and everything about the table as a whole in a first line that starts with "#".
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from medssl.command import Command
from medssl.errors import ManifestError, did_you_mean
from medssl.manifest.columns import COLUMNS, DEFAULTS, REQUIRED, SPLITS
from medssl.manifest.file_name import manifest_file
from medssl.nameless import Nameless, nameless_rows
from medssl.quoting import quoted
from medssl.regions import Region, regions_from, regions_json
from medssl.sheet import Sheet, ShowsItself, said
from medssl.spreadsheet import read_cell, safe_cell
from medssl.writing import atomic_write

__all__ = ["Manifest", "manifest_of_rows", "read_manifest", "write_manifest"]

# A label of its own for a volume; the class of each point for a cloud.
_LABELLED = pl.col("label_path").is_not_null() | ((pl.col("kind") == "cloud") & pl.col("label_values").is_not_null())
_META_KEY = "medssl"
_VERSION = 1
_SHOWN = 5


@dataclass(frozen=True)
class Manifest(ShowsItself):
    """A table of scans.

    Attributes:
        frame: One row a scan, with the columns of ``COLUMNS`` in that order.
        classes: Label value -> name, where the dataset says so; 0 is the background.
        ignored: Label values that say "not known" (nnU-Net's ``ignore``); they are no classes.
        regions: Structures that are unions of label values, in the order in which a prediction writes them.
        notes: Sentences about the folder as a whole.
        root: The folder that was indexed; empty where there was none.
        settings: What the index was made with, so that a second run knows what it may keep.
        file: Where it was read from or written to; "" where it is not on disk.
    """

    frame: pl.DataFrame
    classes: dict[int, str] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[str, ...] = ()
    root: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    file: str = field(default="", compare=False)

    def __fspath__(self) -> str:
        """Return its file, so that a manifest may stand where a path is wanted.

        Raises:
            ManifestError: It is in no file, or the file holds something else.
        """
        if not self.file or not Path(self.file).is_file() or not read_manifest(self.file).frame.equals(self.frame):
            raise ManifestError(
                f"This manifest of {len(self)} rows is not the one of a file{f' ({self.file})' if self.file else ''}. "
                "Write it with medssl.manifest.schema.write_manifest, and give that file."
            )
        return self.file

    def __len__(self) -> int:
        """Return the number of rows, unreadable ones included."""
        return self.frame.height

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every row as a dictionary."""
        return self.frame.iter_rows(named=True)

    def usable(self) -> Manifest:
        """Return the rows that can be read and that `medssl reduce`, where it ran, keeps."""
        return self.with_frame(self.frame.filter(pl.col("error").is_null() & pl.col("keep")))

    def kept(self) -> Manifest:
        """Return the rows that `medssl reduce` keeps, unreadable ones included; all of a manifest that it never saw."""
        return self.with_frame(self.frame.filter(pl.col("keep")))

    def labelled(self) -> Manifest:
        """Return the usable rows that have a label."""
        usable = self.usable()
        return usable.with_frame(usable.frame.filter(pl.col("label_path").is_not_null()))

    def of_split(self, *names: str) -> Manifest:
        """Return the rows of one split or of several.

        Raises:
            ManifestError: There is no such split.
        """
        for name in names:
            if name not in SPLITS:
                raise ManifestError(f"Unknown split '{name}'. {did_you_mean(name, [s for s in SPLITS if s])}")
        return self.with_frame(self.frame.filter(pl.col("split").is_in(names)))

    def subset(self, ids: Iterable[str]) -> Manifest:
        """Return the rows with these ids, in the order of the manifest.

        Raises:
            ManifestError: An id is not in the manifest.
        """
        wanted = list(dict.fromkeys(ids))
        known = set(self.frame["id"])
        missing = [name for name in wanted if name not in known]
        if missing:
            raise ManifestError(
                f"No scan has the id '{missing[0]}' ({len(missing)} missing in all). "
                f"{did_you_mean(missing[0], known) if len(known) < 1000 else ''}".strip()
            )
        return self.with_frame(self.frame.filter(pl.col("id").is_in(wanted)))

    def with_frame(self, frame: pl.DataFrame) -> Manifest:
        """Return a manifest of other rows that says the same of the whole."""
        return replace(self, frame=frame)

    def summary(self) -> dict[str, Any]:
        """Return counts: scans, patients, labelled, left out, unreadable, set aside, scans by modality and by split."""
        good = self.usable().frame
        readable = self.frame.filter(pl.col("error").is_null()).height
        aside = self.frame.filter(pl.col("error").is_not_null() & pl.col("flags").list.contains("set-aside")).height

        def counted(column: str) -> dict[str, int]:
            groups = good.group_by(column).len().sort(column)
            return {str(name or "none"): int(n) for name, n in groups.iter_rows()}

        splits = counted("split")
        return {
            "scans": good.height,
            "patients": good["patient"].n_unique() if good.height else 0,
            "labelled": good.filter(_LABELLED).height,
            "left_out": readable - good.height,
            "unreadable": self.frame.height - readable - aside,
            "set_aside": aside,
            "clouds": int((good["kind"] == "cloud").sum()),
            "modalities": counted("modality"),
            "splits": {name: splits[name] for name in (*SPLITS[:-1], "none") if name in splits},
            "targets": self.targets(),
        }

    def targets(self) -> dict[str, dict[str, int]]:
        """Return how many patients have each class of each target."""
        owners: dict[str, dict[str, set[str]]] = {}
        for row in self.usable().rows():
            for name, label in json.loads(row["targets"] or "{}").items():
                owners.setdefault(name, {}).setdefault(label, set()).add(row["patient"])
        return {
            name: {label: len(patients) for label, patients in sorted(classes.items())}
            for name, classes in sorted(owners.items())
        }

    def nameless(self) -> Nameless:
        """Return what takes the names of the manifest's files and folders out of texts; classes and channels stay."""
        rows = list(self.rows())
        spoken = [*self.classes.values(), *(region.name for region in self.regions)]
        spoken += [word for row in rows for word in json.loads(row["targets"] or "{}").values()]
        return nameless_rows(rows, self.root, spoken)

    @property
    def pseudonymous(self) -> bool:
        """Whether ids and keys of patients are pseudonyms, see `medssl.manifest.pseudonyms`."""
        return self.settings.get("privacy") == "pseudonyms"

    def sheet(self) -> Sheet:
        """Return what the manifest holds: counts, and its first rows."""
        s = self.summary()
        held = f"{s['scans'] - s['clouds']} scans" if s["scans"] > s["clouds"] or not s["clouds"] else ""
        held += (" and " if held else "") + f"{s['clouds']} clouds" if s["clouds"] else ""
        owners = "objects" if s["clouds"] and s["scans"] == s["clouds"] else "patients"
        head = f"Manifest: {held} of {s['patients']} {owners}"
        head += f", {s['labelled']} labelled" if s["labelled"] or s["scans"] > s["clouds"] else ""
        head += f", {s['left_out']} left out" if s["left_out"] else ""
        head += f", {s['unreadable']} unreadable" if s["unreadable"] else ""
        modalities = {name: n for name, n in s["modalities"].items() if name != "points"}
        if modalities:
            head += "; " + ", ".join(f"{n} {name}" for name, n in modalities.items())
        if set(s["splits"]) - {"none"}:
            head += "; " + ", ".join(f"{name} {n}" for name, n in s["splits"].items())
        return Sheet(head, (), *self._table(_SHOWN))

    def head(self, count: int = 5) -> Sheet:
        """Return the first rows as a small table."""
        return Sheet(f"the first {min(count, len(self))} of {len(self)} rows", (), *self._table(count))

    def _table(self, count: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        kinds = set(self.frame["kind"])
        size = (["shape", "spacing_mm"] if kinds != {"cloud"} else []) + (["points"] if "cloud" in kinds else [])
        heads = ("id", "modality", "patient", *size, "split", "error")
        rows = tuple(tuple(map(said, row)) for row in self.frame.select(heads).head(count).iter_rows())
        return (heads, rows) if rows else ((), ())


def manifest_of_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    classes: Mapping[int, str] | None = None,
    ignored: Sequence[int] = (),
    regions: Sequence[Region] = (),
    notes: Sequence[str] = (),
    root: str = "",
    settings: Mapping[str, Any] | None = None,
) -> Manifest:
    """Return a manifest of plain dictionaries; columns that a row leaves out become null, or their default.

    Raises:
        ManifestError: A column is unknown, or the rows contradict each other.
    """
    filled = []
    for row in rows:
        unknown = set(row) - set(COLUMNS)
        if unknown:
            name = min(unknown)
            raise ManifestError(f"Unknown column '{name}' in a manifest row. {did_you_mean(name, COLUMNS)}")
        filled.append({name: row.get(name, DEFAULTS.get(name)) for name in COLUMNS})
    frame = pl.DataFrame(filled, schema=COLUMNS, orient="row")
    manifest = Manifest(
        _completed(frame),
        classes=dict(classes or {}),
        ignored=tuple(ignored),
        regions=tuple(regions),
        notes=tuple(notes),
        root=root,
        settings=dict(settings or {}),
    )
    _validate(manifest.frame, "the rows")
    return manifest


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest.

    A CSV that a person wrote needs the columns ``id`` and ``path`` alone; what is missing is null.

    Args:
        path: A .parquet or .csv file.

    Raises:
        ManifestError: The file is missing, damaged, or not a manifest.
    """
    if (folder := Path(path)).is_dir():
        making = Command("index", folder, "--out", f"{folder.name}.parquet")
        raise ManifestError(
            f"{path} is a folder, and a manifest is a .parquet or a .csv file. Make one of what lies in it with "
            f"`{making}`."
        )
    path = manifest_file(path)
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest. Make one with: medssl index SCANS --out {quoted(path)}")
    try:
        frame, meta = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pl.exceptions.PolarsError, OSError, ValueError, KeyError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ManifestError(
            f"{path}: this is not a readable manifest ({line}). Make it again with: medssl index"
        ) from error
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise ManifestError(
            f"{path}: a manifest needs the column '{missing[0]}'. Found: {', '.join(frame.columns[:12]) or 'nothing'}. "
            f"A plain list of files is read by: medssl index {quoted(path)} --out manifest.parquet"
        )
    if meta.get("version", _VERSION) > _VERSION:
        raise ManifestError(
            f"{path}: written by a newer medssl (version {meta['version']}). Update medssl, or run index again."
        )
    frame = _completed(frame)
    _validate(frame, str(path))
    classes = {int(value): str(name) for value, name in meta.get("classes", {}).items()}
    return Manifest(
        frame,
        classes=classes,
        ignored=tuple(int(value) for value in meta.get("ignored", ())),
        regions=regions_from(meta.get("regions", ())),
        notes=tuple(meta.get("notes", ())),
        root=str(meta.get("root", "")),
        settings=dict(meta.get("settings", {})),
        file=str(path.absolute()),
    )


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest; the file appears whole or not at all.

    Args:
        manifest: What to write.
        path: A .parquet or .csv file.

    Raises:
        ManifestError: It is no path of a manifest, or the rows contradict each other.
    """
    path = manifest_file(path)
    _validate(manifest.frame, str(path))
    about = {name: getattr(manifest, name) for name in ("classes", "ignored", "notes", "root", "settings")}
    about["regions"] = regions_json(manifest.regions)
    meta = json.dumps({"version": _VERSION, **about}, ensure_ascii=False)
    with atomic_write(path, suffix=path.suffix) as aside:
        if path.suffix == ".parquet":
            manifest.frame.write_parquet(aside, metadata={_META_KEY: meta})
            return
        listed = [name for name, dtype in manifest.frame.schema.items() if isinstance(dtype, pl.List)]
        flat = manifest.frame.with_columns(_as_json(manifest.frame[name]) for name in listed)
        flat = flat.with_columns(
            _mapped(flat[name], safe_cell) for name in flat.columns if flat[name].dtype == pl.String
        )
        aside.write_text(f"# medssl {meta}\n{flat.write_csv()}", encoding="utf-8")


def _as_json(column: pl.Series) -> pl.Series:
    texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in column.to_list()]
    return pl.Series(column.name, texts, dtype=pl.String)


def _mapped(column: pl.Series, way: Callable[[str], str]) -> pl.Series:
    return pl.Series(column.name, [None if cell is None else way(cell) for cell in column.to_list()], dtype=pl.String)


def _read_parquet(path: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    meta = pl.read_parquet_metadata(path).get(_META_KEY)
    return pl.read_parquet(path), json.loads(meta) if meta else {}


def _read_csv(path: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    meta: dict[str, Any] = {}
    if text.startswith("# medssl "):
        first, _, text = text.partition("\n")
        meta = json.loads(first.removeprefix("# medssl "))
    frame = pl.read_csv(io.BytesIO(text.encode()), infer_schema=False)
    if meta:  # what a person wrote is as it is meant
        frame = frame.with_columns(_mapped(frame[name], read_cell) for name in frame.columns)
    for name, dtype in COLUMNS.items():
        if name in frame.columns and isinstance(dtype, pl.List):
            values = [None if cell in (None, "") else json.loads(cell) for cell in frame[name].to_list()]
            frame = frame.with_columns(pl.Series(name, values, dtype=dtype))
    return frame, meta


def _completed(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with every column, in order and of its type, and defaults where there was nothing."""
    absent = [None] * frame.height
    try:
        columns = [
            _cast(frame[name] if name in frame.columns else pl.Series(name, absent, dtype=dtype), dtype)
            for name, dtype in COLUMNS.items()
        ]
    except pl.exceptions.PolarsError as error:
        raise ManifestError(f"A column of the manifest has the wrong type: {str(error).splitlines()[0]}") from error
    whole = pl.DataFrame(columns)
    whole = whole.with_columns(pl.col(name).fill_null(value) for name, value in DEFAULTS.items())
    # Every list is a list: who iterates flags or files need not ask first.
    whole = whole.with_columns(pl.col(name).fill_null(pl.lit([], dtype=COLUMNS[name])) for name in ("flags", "notes"))
    whole = whole.with_columns(
        paths=pl.when(pl.col("paths").is_null()).then(pl.concat_list("path")).otherwise(pl.col("paths"))
    )
    # A scan that nobody names belongs to a patient of its own: never two strangers in one.
    unnamed = pl.col("patient").is_null() | (pl.col("patient") == "")
    return whole.with_columns(patient=pl.when(unnamed).then(pl.col("id")).otherwise(pl.col("patient")))


def _cast(column: pl.Series, dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
    if dtype == pl.Boolean and column.dtype == pl.String:
        return column.str.to_lowercase().replace_strict({"true": True, "false": False, "1": True, "0": False})
    return column.cast(dtype)


def _validate(frame: pl.DataFrame, where: str) -> None:
    """Raise where rows contradict each other or a value is outside of what its column allows."""
    if frame["id"].null_count() or frame["path"].null_count():
        raise ManifestError(
            f"{where}: {frame['id'].null_count() or frame['path'].null_count()} rows have no id or path."
        )
    repeated = frame.filter(pl.col("id").is_duplicated())
    if repeated.height:
        paths = repeated.filter(pl.col("id") == repeated["id"][0])["path"].to_list()
        raise ManifestError(
            f"{where}: the id '{repeated['id'][0]}' is in {len(paths)} rows ({paths[0]}, {paths[1]}). "
            "Ids must be unique; rename one, or run index on the folder again."
        )
    for column, allowed in (("split", SPLITS), ("kind", ("volume", "cloud"))):
        wrong = frame.filter(~pl.col(column).is_in(allowed))
        if wrong.height:
            value = wrong[column][0]
            raise ManifestError(
                f"{where}: '{value}' in the column '{column}' of scan '{wrong['id'][0]}'. "
                f"Allowed: {', '.join(name or 'empty' for name in allowed)}."
            )
    for column, length in (("shape", 3), ("spacing_mm", 3), ("affine", 16), ("extent", 3)):
        wrong = frame.filter(pl.col(column).is_not_null() & (pl.col(column).list.len() != length))
        if wrong.height:
            raise ManifestError(
                f"{where}: '{column}' of scan '{wrong['id'][0]}' has {len(wrong[column][0])} numbers, not {length}."
            )
