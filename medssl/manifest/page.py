"""The check as one HTML file: tiles, findings, distributions and a few pictures; no network, no scripts."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import FormatError
from medssl.formats.reading import read
from medssl.manifest.check import CheckResult
from medssl.manifest.own_checks import own_checks
from medssl.manifest.schema import Manifest
from medssl.pool import isolated
from medssl.quoting import visible

__all__ = ["check_page"]

_EXAMPLES = 40  # findings of one kind that are listed; the JSON beside the page has all
_BINS = 12
_PICTURE_VOXELS = 1 << 28

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Check of {{ name }}</title>
<style>
:root { --ink:#1c2430; --soft:#5d6b7c; --line:#dfe4ea; --ground:#f6f8fa; --card:#fff; --blue:#2b6cb0;
  --error:#b3261e; --warning:#93600a; --info:#3a5f8a; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6ebf1; --soft:#9fadbd; --line:#313a46; --ground:#12161c;
  --card:#1b2129; --blue:#6aa9e9; --error:#ff8a80; --warning:#e8b65a; --info:#8fb8e6; } }
* { box-sizing:border-box } body { margin:0; background:var(--ground); color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif }
main { max-width:68rem; margin:0 auto; padding:1.5rem 1rem 4rem }
h1 { font-size:1.6rem; margin:0; overflow-wrap:anywhere } h2 { font-size:1.15rem; margin:2.2rem 0 .7rem }
p { margin:.3rem 0 } .soft { color:var(--soft) }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr)); gap:.7rem; margin:1.2rem 0 }
.tile,.card { background:var(--card); border:1px solid var(--line); border-radius:.6rem; padding:.8rem 1rem }
.tile b { display:block; font-size:1.6rem; line-height:1.2 } .tile span { color:var(--soft); font-size:.9rem }
.error { color:var(--error) } .warning { color:var(--warning) } .info { color:var(--info) }
details { background:var(--card); border:1px solid var(--line); border-radius:.6rem; margin:.5rem 0 }
summary { cursor:pointer; padding:.6rem 1rem; display:flex; gap:.7rem; flex-wrap:wrap; align-items:baseline }
summary .what { flex:1 1 14rem; min-width:0; overflow-wrap:anywhere }
.scroll { overflow-x:auto; padding:0 1rem .8rem }
table { border-collapse:collapse; width:100%; font-size:.92rem }
th { text-align:left; color:var(--soft); font-weight:500 }
th,td { padding:.35rem .8rem .35rem 0; border-top:1px solid var(--line); vertical-align:top }
td { overflow-wrap:anywhere }
td.path { color:var(--soft); font-size:.85rem; word-break:break-all }
.charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(17rem,1fr)); gap:.7rem }
.card h3 { font-size:.95rem; margin:0 0 .4rem; font-weight:600 } svg { width:100%; height:auto; display:block }
svg text { fill:var(--soft); font-size:11px } svg rect { fill:var(--blue) }
.pictures { display:grid; grid-template-columns:repeat(auto-fill,minmax(9rem,1fr)); gap:.7rem }
figure { margin:0 } figure img { width:100%; border-radius:.4rem; background:#000; display:block; aspect-ratio:1;
  object-fit:contain } figcaption { font-size:.8rem; color:var(--soft); overflow-wrap:anywhere }
</style></head><body><main>
<h1>Check of {{ name }}</h1>
{% if root %}<p class="soft">{{ root }}</p>
{% endif %}<p>{% if result.ok %}No errors{% else %}<b class="error">{{ result.count("error") }}
error{{ "" if result.count("error") == 1 else "s" }}</b>{% endif %}, {{ result.count("warning") }}
warning{{ "" if result.count("warning") == 1 else "s" }}, {{ result.count("info") }} notes.</p>
<div class="tiles">{% for value, label in tiles %}<div class="tile"><b>{{ value }}</b><span>{{ label }}</span></div>
{% endfor %}</div>
<h2>Findings</h2>
{% for severity, kind, findings in result.by_kind() %}
<details{% if severity == "error" %} open{% endif %}><summary><b class="{{ severity }}">{{ severity }}</b>
<span class="what"><b>{{ kind.replace("-", " ") }}</b>{% if findings|length == 1 %}: {{ findings[0].what }}{% endif %}
</span><span class="soft">{{ findings|length }}</span></summary>
<div class="scroll"><table><tr><th>scan</th><th>found</th><th>what to do</th></tr>
{% for f in findings[:examples] %}<tr><td>{{ f.scan or "all" }}</td>
<td>{{ f.what }}{% if f.path %}
<br><span class="soft">{{ f.path }}</span>{% endif %}
</td><td>{{ f.todo }}</td></tr>{% endfor %}</table>
{% if findings|length > examples %}<p class="soft">and {{ findings|length - examples }} more; {{ beside }} lists all</p>
{% endif %}</div></details>
{% else %}<p class="card">Nothing was found.</p>{% endfor %}
{% if charts %}<h2>What they are like</h2><div class="charts">{% for title, svg in charts %}
<div class="card"><h3>{{ title }}</h3>{{ svg|safe }}</div>{% endfor %}</div>{% endif %}
{% if pictures %}<h2>Some of them</h2><p class="soft">{{ seen }}</p>
<div class="pictures">{% for scan, source in pictures %}<figure><img alt="{{ look }} of {{ scan }}"
src="data:image/png;base64,{{ source }}"><figcaption>{{ scan }}</figcaption></figure>{% endfor %}</div>{% endif %}
</main></body></html>
"""


def check_page(
    manifest: Manifest,
    result: CheckResult,
    *,
    name: str,
    beside: str = "the JSON file",
    pictures: int = 0,
    draw_cloud: Callable[[Path, int], npt.NDArray[np.uint8]] | None = None,
    root: str = "",
) -> str:
    """Return the page.

    Args:
        manifest: What was checked.
        result: What was found.
        name: What to call the manifest.
        beside: What the JSON file is called that lists every finding.
        pictures: How many scans to show, spread evenly over the manifest.
        root: The folder that was indexed, where it is to be shown.
        draw_cloud: (file, which of its clouds) -> uint8 (height, width, 3); clouds are not shown without it.
    """
    import jinja2

    summary = result.summary
    volumes = summary["scans"] - summary["clouds"]
    kinds = [(count, kind) for count, kind in ((volumes, "scans"), (summary["clouds"], "clouds")) if count]
    owners = "patients" if volumes or not kinds else "objects"
    tiles = [
        *(kinds or [(0, "scans")]),
        (summary["patients"], owners),
        (summary["labelled"], "with labels"),
        (summary["unreadable"], "unreadable"),
    ]
    tiles += [(count, f"{modality} scans") for modality, count in summary["modalities"].items() if modality != "points"]
    tiles += [(count, f"in {split}") for split, count in summary["splits"].items() if split != "none"]
    rows = [row for row in manifest.rows() if row["error"] is None]
    seen = ["Middle slices, between the 0.5 and 99.5 percentiles."] if volumes else []
    seen += [own.pictured for own in own_checks({row["kind"] for row in rows}).values()]
    template = jinja2.Environment(autoescape=True).from_string(_TEMPLATE)
    page = template.render(
        name=name,
        beside=beside,
        root=root,
        result=result,
        tiles=tiles,
        charts=_charts(rows),
        examples=_EXAMPLES,
        pictures=_pictures(rows, pictures, draw_cloud),
        seen=" ".join(seen),
        look="middle slice" if volumes else "view from the front",
    )
    return visible(page, lines=True)


def _charts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    charts = _charts_of_volumes([row for row in rows if row["kind"] == "volume"])
    for kind, own in own_checks({row["kind"] for row in rows}).items():
        for title, found in own.charts([row for row in rows if row["kind"] == kind]):
            counts = [(html.escape(name), n) for name, n in found] if isinstance(found, list) else None
            charts.append((title, _histogram(np.asarray(found)) if counts is None else _bars(counts)))
    return charts


def _charts_of_volumes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    if not rows:
        return []
    spacing = np.array([row["spacing_mm"] for row in rows])
    shape = np.array([row["shape"] for row in rows])
    charts = [
        ("Voxel size between slices, z (mm)", _histogram(spacing[:, 0])),
        ("Voxel size in plane, x (mm)", _histogram(spacing[:, 2])),
        ("Slices, z", _histogram(shape[:, 0])),
        ("Voxels in plane, x", _histogram(shape[:, 2])),
    ]
    medians = np.array([row["p50"] for row in rows if row["p50"] is not None])
    if len(medians):
        charts.append(("Median intensity", _histogram(medians)))
    classes = Counter(value for row in rows for value in row["label_values"] or () if value != 0)
    if classes:
        charts.append(("Labels that hold each class", _bars([(str(v), n) for v, n in sorted(classes.items())[:40]])))
    return charts


def _histogram(values: npt.NDArray[Any]) -> str:
    different = np.unique(values.round(3))
    if len(different) <= _BINS:
        return _bars([(f"{value:g}", int((values.round(3) == value).sum())) for value in different])
    counts, edges = np.histogram(values, bins=_BINS)
    return _bars([(f"{edge:.3g}", int(n)) for edge, n in zip(edges, counts, strict=False)])


def _bars(pairs: Sequence[tuple[str, int]]) -> str:
    """Return bars as SVG; labels are numbers made here, or escaped already."""
    width, height, foot, head = 340, 150, 18, 14
    most = max(n for _, n in pairs)
    step = width / len(pairs)
    thick = min(step * 0.8, 60)
    parts = []
    every = -(-len(pairs) * 34 // width)
    for i, (label, n) in enumerate(pairs):
        tall = (height - foot - head) * n / most
        middle = step * (i + 0.5)
        top = height - foot - tall
        parts.append(
            f'<rect x="{middle - thick / 2:.1f}" y="{top:.1f}" width="{thick:.1f}" height="{tall:.1f}" rx="2">'
            f"<title>{label}: {n}</title></rect>"
        )
        if i % every == 0:
            parts.append(f'<text x="{middle:.1f}" y="{height - 4}" text-anchor="middle">{label}</text>')
            if n:
                parts.append(f'<text x="{middle:.1f}" y="{top - 3:.1f}" text-anchor="middle">{n}</text>')
    told = "; ".join(f"{label}: {n}" for label, n in pairs if n)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _pictures(
    rows: Sequence[Mapping[str, Any]], count: int, draw_cloud: Callable[[Path, int], npt.NDArray[np.uint8]] | None
) -> list[tuple[str, str]]:
    def fits(row: Mapping[str, Any]) -> bool:
        if row["kind"] == "cloud":
            return draw_cloud is not None
        return row["p005"] is not None and bool(np.prod(row["shape"]) <= _PICTURE_VOXELS)

    fit = [row for row in rows if fits(row)]
    chosen = [fit[i] for i in np.unique(np.linspace(0, len(fit) - 1, min(count, len(fit))).round().astype(int))]
    pictures = []
    for row in chosen:
        paths = [Path(name) for name in row["paths"] or ()] if row["format"] in ("dicom", "image-stack") else []
        channel = json.loads(row["fields"] or "{}").get("picture_channel", "")
        try:
            if row["kind"] == "cloud" and draw_cloud:
                pictures.append((row["id"], _encoded(draw_cloud(Path(row["path"]), row["item"]))))
                continue
            affine = np.array(row["affine"]).reshape(4, 4)
            drawn = isolated(_drawn, Path(row["path"]), paths, channel, affine, row["p005"], row["p995"])
        except (FormatError, OSError):
            continue  # it has gone or changed since; the table of findings says so
        pictures.append((row["id"], drawn))
    return pictures


def _drawn(
    path: Path, paths: Sequence[Path], channel: str, affine: npt.NDArray[np.float64], low: float, high: float
) -> str:
    """Read a scan and return its middle slice as a picture. Runs in a worker."""
    return _png(read(path, paths=paths, channel=channel).values, affine, low, high)


def _png(values: npt.NDArray[Any], affine: npt.NDArray[np.float64], low: float, high: float) -> str:
    turned, upright = geometry.to_canonical(values, affine)
    plane = np.asarray(turned[turned.shape[0] // 2], dtype=np.float64)
    # Radiological view: the patient's front is up, the right side on the left.
    shown = np.clip((np.nan_to_num(plane[::-1, ::-1], nan=low) - low) / ((high - low) or 1.0), 0, 1)
    _, y_mm, x_mm = geometry.spacing_mm(upright)
    shown = _resized(shown, y_mm / x_mm)
    return _encoded((shown * 255).astype(np.uint8))


def _encoded(picture: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _resized(plane: npt.NDArray[np.float64], stretch: float) -> npt.NDArray[np.float64]:
    """Return the plane with square pixels, 256 of them at most along an axis, by nearest neighbour."""
    height, width = plane.shape[0] * stretch, float(plane.shape[1])
    scale = min(1.0, 256 / max(height, width)) if max(height, width) > 256 else 1.0
    rows = np.linspace(0, plane.shape[0] - 1, max(1, round(height * scale))).round().astype(int)
    columns = np.linspace(0, plane.shape[1] - 1, max(1, round(width * scale))).round().astype(int)
    resized: npt.NDArray[np.float64] = plane[np.ix_(rows, columns)]
    return resized
