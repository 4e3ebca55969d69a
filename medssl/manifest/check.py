"""What is wrong, doubtful or worth knowing in a manifest, each with what to do about it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import Any

from medssl.manifest.check_channels import channels_together
from medssl.manifest.check_labels import label_doubts, labels_together
from medssl.manifest.check_patients import aside_together, patients_together
from medssl.manifest.check_scan import doubts_of_scan, stale, unreadable
from medssl.manifest.check_together import doubts_together
from medssl.manifest.finding import SEVERITIES, Finding, of_all, of_scan
from medssl.manifest.own_checks import own_checks
from medssl.manifest.schema import Manifest
from medssl.nameless import Nameless

__all__ = ["SEVERITIES", "CheckResult", "Finding", "check_manifest"]


@dataclass(frozen=True)
class CheckResult:
    """Every finding, errors first.

    Attributes:
        findings: The findings.
        summary: Counts of the manifest.
    """

    findings: tuple[Finding, ...]
    summary: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return self.count("error") == 0

    def count(self, severity: str) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def by_kind(self) -> list[tuple[str, str, list[Finding]]]:
        """Return (severity, kind, findings), errors first, the most frequent kind first."""
        groups: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in self.findings:
            groups[finding.severity, finding.kind].append(finding)
        order = sorted(groups, key=lambda key: (SEVERITIES.index(key[0]), -len(groups[key]), key[1]))
        return [(severity, kind, groups[severity, kind]) for severity, kind in order]

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON beside the page holds."""
        return {
            "ok": self.ok,
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "summary": self.summary,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def nameless(self, names: Nameless) -> CheckResult:
        """Return the same without paths, and without names of files and folders: scans are named by their ids."""
        bare = (replace(f, path="", what=names.text(f.what), todo=names.text(f.todo)) for f in self.findings)
        return replace(self, findings=tuple(bare))


def check_manifest(manifest: Manifest, *, look_at_files: bool = True) -> CheckResult:
    """Return everything that a person should know before training on these scans.

    Args:
        manifest: What `medssl index` wrote.
        look_at_files: Whether to see if files are still there and unchanged.
    """
    rows = list(manifest.rows())
    good = [row for row in rows if row["error"] is None and row["keep"]]
    volumes = [row for row in good if row["kind"] == "volume"]
    others = own_checks({row["kind"] for row in good})
    findings: list[Finding] = []
    for row in rows:
        findings += unreadable(row)
    for row in good:
        own = others.get(row["kind"])
        if own is not None:
            findings += [of_scan(row, *doubt) for doubt in own.of_one(row)]
        findings += doubts_of_scan(row, own.notes if own is not None else ())
        if row["kind"] == "volume":
            findings += [of_scan(row, *doubt) for doubt in label_doubts(row, manifest.classes)]
        if look_at_files:
            findings += stale(row)
    findings += doubts_together(good)
    for kind, own in others.items():
        findings += [of_all(*doubt) for doubt in own.together([row for row in good if row["kind"] == kind])]
    order = manifest.settings.get("channels", ())
    findings += [of_all(*doubt) for doubt in channels_together(rows, order)]
    findings += [of_all(*doubt) for doubt in patients_together(volumes, manifest.root)]
    findings += [of_all(*doubt) for doubt in aside_together([row for row in rows if row["error"] is not None])]
    findings += [of_all(*doubt) for doubt in manifest.settings.get("of_clouds", {}).get("findings", ())]
    findings += [of_all("info", "dataset-note", note, "Nothing, if this is intended.") for note in manifest.notes]
    left_out = sum(not row["keep"] for row in rows)
    if left_out:
        findings.append(of_all("info", "left-out", f"{left_out} scans are left out by medssl reduce", "Nothing."))
    for scan, doubt in labels_together(good, manifest.classes, manifest.ignored):
        findings.append(of_scan(scan, *doubt) if scan is not None else of_all(*doubt))
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.scan, f.what))
    return CheckResult(tuple(findings), manifest.summary())
