"""What a walk leaves out, counted by kind, so that nothing in a folder vanishes without a line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["SIDECARS", "PassedOver", "suffix_of"]

# What lies beside scans and says something of them, or of the data set, or nothing.
SIDECARS = {
    ".json",
    ".csv",
    ".tsv",
    ".txt",
    ".md",
    ".rst",
    ".cfg",
    ".ini",
    ".xml",
    ".html",
    ".htm",
    ".pdf",
    ".py",
    ".ipynb",
    ".sh",
    ".m",
    ".r",
    ".yaml",
    ".yml",
    ".toml",
    ".log",
    ".xls",
    ".xlsx",
    ".doc",
    ".docx",
    ".parquet",
    ".bval",
    ".bvec",
    ".md5",
    ".sha256",
    ".sha512",
    ".css",
    ".js",
    ".bib",
    ".cff",
    ".lnk",
    ".url",
}
_SIDECAR_NAMES = {
    "readme",
    "license",
    "licence",
    "copying",
    "changes",
    "changelog",
    "dicomdir",
    "citation",
    "authors",
    "thumbs.db",
    "desktop.ini",
    "md5sums",
    "sha256sums",
}
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst")
_TWO_PARTS = (".tar.gz", ".tar.bz2", ".tar.xz", ".nii.zst", ".nii.bz2", ".nii.xz")
_SHOWN = 12


@dataclass
class PassedOver:
    """Counts of what was neither read nor known to be a sidecar.

    Attributes:
        files: Suffix -> files.
        things: What else was left out, in words -> how many.
        followed: Links that lead out of the folder and were followed.
    """

    files: Counter[str] = field(default_factory=Counter)
    things: Counter[str] = field(default_factory=Counter)
    followed: int = 0

    def add_file(self, path: Path) -> None:
        """Count a file that nothing reads; a known sidecar is none."""
        suffix = suffix_of(path)
        if suffix in SIDECARS or {path.name.lower(), path.stem.lower()} & _SIDECAR_NAMES:
            return
        try:
            empty = path.stat().st_size == 0
        except OSError:
            empty = False
        if empty:
            self.things["empty files"] += 1
        else:
            self.files[suffix or "without a suffix"] += 1

    def notes(self) -> list[str]:
        """Return a sentence for the manifest's notes; none where nothing was left out."""
        loose = [(suffix, count) for suffix, count in self.files.items() if suffix not in _ARCHIVES]
        packed = [(suffix, count) for suffix, count in self.files.items() if suffix in _ARCHIVES]
        parts = [f"{count} {suffix}" for suffix, count in sorted(loose, key=lambda pair: (-pair[1], pair[0]))]
        if len(parts) > _SHOWN:
            parts = [*parts[:_SHOWN], f"{sum(self.files.values())} files of {len(self.files)} kinds in all"]
        if packed:
            parts += [", ".join(f"{count} {suffix}" for suffix, count in sorted(packed)) + " (archives: unpack first)"]
        parts += [f"{count} {word}" for word, count in sorted(self.things.items())]
        said = [f"passed over: {', '.join(parts)}"] if parts else []
        if self.followed:
            said.append(
                f"links out of the folder: {self.followed} were followed, and what they lead to counts as in it"
            )
        return said


def suffix_of(path: Path) -> str:
    """Return the suffix that tells the format, lower case; two where the last one only says how it is packed.

    Example:
        >>> suffix_of(Path("a.TAR.GZ")), suffix_of(Path("scan.v2.vtk")), suffix_of(Path("IM0001"))
        ('.tar.gz', '.vtk', '')
    """
    name = path.name.lower()
    return next((suffix for suffix in _TWO_PARTS if name.endswith(suffix)), path.suffix.lower())
