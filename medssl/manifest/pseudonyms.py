"""Pseudonyms in place of ids and keys of patients, made with a secret salt, and the table that alone can undo them.

A key is the first digits of HMAC-SHA256 of the name under the salt: who has names but not the salt can test none. Two
manifests that are made with one salt give one patient the same key. The table lies beside the manifest, readable for
its owner alone; a later `medssl index` needs it, nothing else does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from medssl.errors import ManifestError
from medssl.manifest.columns import COLUMNS
from medssl.manifest.schema import Manifest
from medssl.nameless import Nameless
from medssl.writing import atomic_write

__all__ = ["PSEUDONYMS", "Table", "conceal", "read_salt", "read_table", "restore", "table_file", "write_table"]

PSEUDONYMS = "pseudonyms"
_DIGITS = 12
_COLUMN_KINDS = {"id": "scan", "case": "scan", "patient": "patient", "study": "study", "series": "series"}
_FIELDS = {"patient": "patient", "study": "study", "series": "series", "frame_of_reference": "frame"}
_TEXTS = ("notes", "error", "flags")


@dataclass
class Table:
    """Who is who.

    Attributes:
        salt: The secret.
        names: Pseudonym -> name.
    """

    salt: bytes
    names: dict[str, str] = field(default_factory=dict)

    def pseudonym(self, kind: str, name: str) -> str:
        """Return the pseudonym of a name, and keep it; "" stays "", and a pseudonym of the table stays itself.

        Args:
            kind: "scan", "patient", "study", "series" or "frame"; equal names of two kinds get two pseudonyms.
            name: The name.
        """
        if not name or name in self.names:
            return name
        digest = hmac.new(self.salt, f"{kind}\0{name}".encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
        digits = _DIGITS
        while self.names.setdefault(f"{kind}-{digest[:digits]}", name) != name:
            digits += 4  # two names that begin alike
        return f"{kind}-{digest[:digits]}"


def table_file(manifest: Path) -> Path:
    """Return where the table of a manifest lies."""
    return manifest.with_name(f"{manifest.stem}.pseudonyms.json")


def read_salt(path: Path) -> bytes:
    """Return the salt in a file; one that is not there is made, readable for its owner alone.

    Raises:
        ManifestError: The file holds no salt.
    """
    if not path.exists():
        with atomic_write(path, private=True) as aside:
            aside.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    try:
        salt = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: this holds no salt. Name a new file, and one is made there.") from error
    if len(salt) < 16:
        raise ManifestError(f"{path}: the salt has {len(salt)} bytes; at least 16 are needed. Name a new file.")
    return salt


def read_table(path: Path) -> Table | None:
    """Return the table in a file; None where there is none.

    Raises:
        ManifestError: It is damaged.
    """
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Table(bytes.fromhex(said["salt"]), {str(key): str(name) for key, name in said["names"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{path}: the table of pseudonyms cannot be read ({error}). Restore it, or move it away "
            "and index with fresh=true: pseudonyms will be others."
        ) from error


def write_table(table: Table, path: Path) -> None:
    """Write the table, readable for its owner alone."""
    about = "Names behind the pseudonyms of the manifest beside it. Keep it from everybody who must not know them."
    content = {"about": about, "salt": table.salt.hex(), "names": dict(sorted(table.names.items()))}
    with atomic_write(path, private=True) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", encoding="ascii")


def conceal(manifest: Manifest, table: Table) -> tuple[Manifest, Nameless]:
    """Return a manifest with pseudonyms, and what takes the names out of what is said of it.

    Ids, cases, patients, studies and series become pseudonyms; notes and reasons lose names of files, folders and
    patients. Paths stay: a manifest says where the files are.

    Args:
        manifest: With the names.
        table: Gains what it did not have yet.
    """
    rows = [dict(row) for row in manifest.rows()]
    known: dict[str, str] = {}
    for row in rows:
        for column, kind in _COLUMN_KINDS.items():
            if row[column]:
                known[row[column]] = table.pseudonym(kind, row[column])
    bare = []
    for row in rows:
        own = {
            column: table.pseudonym(kind, row[column] or "") or row[column] for column, kind in _COLUMN_KINDS.items()
        }
        fields = json.loads(row["fields"] or "{}")
        fields |= {name: table.pseudonym(kind, fields[name]) for name, kind in _FIELDS.items() if fields.get(name)}
        bare.append({**row, **own, "fields": json.dumps(fields, sort_keys=True) if row["fields"] else None})
    concealed = replace(manifest, frame=_frame(bare))
    by_path = concealed.nameless()
    # What stays: label values and channels are words of the data set, short keys would be found in any word.
    kept = {str(row["channel"]).casefold() for row in rows} | {name.casefold() for name in manifest.classes.values()}
    words = {name: to for name, to in known.items() if len(name) > 3 and name.casefold() not in kept}
    names = by_path.also(words)
    bare = [{**row, **{column: names.value(row[column]) for column in _TEXTS}} for row in bare]
    bare.sort(key=lambda row: str(row["id"]))
    settings = dict(manifest.settings) | {"privacy": PSEUDONYMS}
    if "of_clouds" in settings:
        settings["of_clouds"] = {
            key: value if key == "parts" else names.value(value) for key, value in settings["of_clouds"].items()
        }
    notes = tuple(names.text(note) for note in manifest.notes)
    return replace(manifest, frame=_frame(bare), notes=notes, settings=settings), names


def restore(manifest: Manifest, table: Table) -> Manifest:
    """Return a manifest with the names, as `conceal` got it, so that the next index knows its scans again.

    Notes and reasons stay without names.
    """
    rows = []
    for row in manifest.rows():
        fields = json.loads(row["fields"] or "{}")
        fields |= {name: table.names.get(fields[name], fields[name]) for name in _FIELDS if fields.get(name)}
        own = {column: table.names.get(row[column], row[column]) for column in _COLUMN_KINDS}
        rows.append({**row, **own, "fields": json.dumps(fields, sort_keys=True) if row["fields"] else None})
    return replace(manifest, frame=_frame(rows))


def _frame(rows: list[Mapping[str, Any]] | list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")
