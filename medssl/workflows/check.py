"""``medssl check``: what is wrong with a manifest's scans, as a page and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from medssl.command import Command
from medssl.settings import resolve
from medssl.workflows import events
from medssl.workflows.check_mending import mend_of, reduce_command
from medssl.workflows.file_limits import FileLimits
from medssl.workflows.intake import clouds
from medssl.workflows.page_files import page_files
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places

if TYPE_CHECKING:
    from medssl.manifest.check import CheckResult, Finding
    from medssl.manifest.schema import Manifest

__all__ = ["CheckSettings", "Checked", "check", "check_name"]


class CheckSettings(FileLimits):
    """Settings of ``medssl check``."""

    verb: ClassVar[str] = "check"

    pictures: int = Field(default=12, ge=0, le=200, description="How many scans to show on the page.")
    privacy: Literal["ids", "paths"] = Field(
        default="ids",
        description="'ids': page and JSON name scans by their ids, and no file or folder; 'paths' names those too.",
    )
    look_at_files: bool = Field(default=True, description="See whether files are still there and unchanged.")


@dataclass(frozen=True)
class Checked(Result):
    """What ``check`` came to.

    Attributes:
        found: Every finding, and counts of the manifest.
    """

    found: CheckResult

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding, errors first."""
        return self.found.findings

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return self.found.ok

    def count(self, severity: str) -> int:
        """Return how many findings are of a severity."""
        return self.found.count(severity)


def check_name(manifest: Path) -> str:
    """Return what the page of a manifest is called: manifests of one folder have pages of their own.

    Example:
        >>> check_name(Path("ct.parquet")), check_name(Path("ct.csv"))
        ('ct-check.html', 'ct.csv-check.html')
    """
    return f"{manifest.stem if manifest.suffix == '.parquet' else manifest.name}-check.html"


@takes_places
def check(
    manifest: str | Path | Manifest,
    *,
    out: str | Path | None = None,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    **options: Any,
) -> Checked:
    """Check scans before training: damage, copies, leaks, odd geometry, bad labels.

    Args:
        manifest: A manifest, or its file.
        out: The page to write, with a .json of the same name beside it. Default: the manifest's name with ``-check``
            added, such as ``ct-check.html`` for ``ct.parquet``. In a folder the page gets that name too.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show check``.
        dry_run: Check and say what was found, but write nothing.
        options: Settings by name, such as ``pictures=0``; ``overrides`` have priority.

    Returns:
        The findings. ``result.ok`` is false if one is an error; the command line then exits with 1.

    Raises:
        ConfigError: A setting is wrong, or ``out`` cannot be written.
        ManifestError: The manifest cannot be read.
    """
    from medssl.manifest.check import SEVERITIES, check_manifest
    from medssl.manifest.page import check_page
    from medssl.manifest.schema import Manifest, read_manifest

    settings = resolve(CheckSettings, preset=preset, overrides=list(overrides), defaults=options).settings
    file = Path("manifest.parquet") if isinstance(manifest, Manifest) else Path(manifest)
    files = page_files(file, out, check_name(file))
    source = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    result = check_manifest(source, look_at_files=settings.look_at_files)
    kept = result if settings.privacy == "paths" else result.nameless(source.nameless())
    shown = kept if source.pseudonymous else result  # a terminal is not kept; names help there
    rows = [
        (severity, len(findings), kind.replace("-", " "), findings[0].scan or "all", findings[0].what)
        for severity, kind, findings in shown.by_kind()
    ]
    events.message(repr(source).splitlines()[0])
    if rows:
        events.table("Findings", ("severity", "scans", "kind", "such as", "found"), rows)
    counts = {severity: result.count(severity) for severity in SEVERITIES}
    events.message(f"errors: {counts['error']}, warnings: {counts['warning']}, notes: {counts['info']}")
    mend = mend_of(shown, source, file)
    following = mend.command if mend else _onwards(source, file)
    if dry_run:
        again, figures = Command("check", file), {"ok": result.ok, "counts": counts}
        return events.written(Checked(result, next=again, figures=figures))
    with settings.limits():
        html = check_page(
            source,
            kept,
            name=file.name,
            beside=files.listing.name,
            pictures=settings.pictures,
            draw_cloud=clouds().draw,
            root=source.root if settings.privacy == "paths" else "",
        )
    written = files.write(html, kept.to_dict())
    if mend and mend.first:
        events.message(mend.first)
    checked = events.written(
        Checked(
            result,
            written=written,
            next=following,
            figures={"ok": result.ok, "counts": counts, "mend_first": mend.first if mend else ""},
        )
    )
    if mend and mend.otherwise:
        events.message(mend.otherwise)
    return checked


def _onwards(source: Manifest, file: Path) -> Command:
    """Return the command that goes on where nothing is to be mended: a manifest is reduced once, then stored."""
    if "prints" in source.settings:
        return Command("cache", file, "--out", f"stores/{file.stem}")
    return reduce_command(file)
