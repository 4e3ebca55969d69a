"""Small clouds on disk, written with numpy, h5py and trimesh and not with medssl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from medssl.manifest.schema import Manifest
from tests.layouts.tree import index

SWEEP = 400


def points(seed: int, count: int = 96, side: float = 1.0) -> np.ndarray:
    """Return points (count, 3) that no other seed has, in a box of this side."""
    return np.round(np.random.default_rng(seed).uniform(0, side, (count, 3)), 3)


def sweep(path: Path, seed: int, count: int = SWEEP, columns: int = 4) -> np.ndarray:
    """Write a sweep of a car's LiDAR as bare float32; return its points in m."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((count, columns), "<f4")
    rows[:, :3] = generator.uniform(-40, 40, (count, 3))
    rows[:, 3] = generator.uniform(0, 1, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.tofile(path)
    return rows[:, :3]


def kitti_labels(path: Path, classes: np.ndarray, instances: np.ndarray | int = 0) -> None:
    """Write SemanticKITTI's labels: the class in the lower 16 bits, the instance in the upper."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (classes.astype("<u4") | (np.asarray(instances, "<u4") << np.uint32(16))).astype("<u4").tofile(path)


def semantic_kitti(root: Path, sequences: dict[int, int]) -> dict[str, np.ndarray]:
    """Write sequences of so many sweeps; return the classes of each sweep by its path as seen from the root."""
    truth = {}
    for sequence, sweeps in sequences.items():
        for number in range(sweeps):
            stem = f"sequences/{sequence:02d}/velodyne/{number:06d}.bin"
            rows = sweep(root / stem, 100 * sequence + number)
            classes = np.where(rows[:, 2] > 0, 40, 10)
            classes[:5], classes[5:9] = 0, 252
            if sequence < 11:
                kitti_labels(root / stem.replace("velodyne", "labels").replace(".bin", ".label"), classes, 7)
            truth[stem] = classes
    return truth


def room(folder: Path, seed: int, pieces: dict[str, int]) -> dict[str, np.ndarray]:
    """Write a room of S3DIS with its pieces, its points in another order; return the points of each piece."""
    (folder / "Annotations").mkdir(parents=True)
    found, every = {}, []
    for number, (name, count) in enumerate(pieces.items()):
        rows = np.c_[points(100 * seed + number, count) + number, np.full((count, 3), 40 * number)]
        np.savetxt(folder / "Annotations" / f"{name}.txt", rows, fmt=["%.3f"] * 3 + ["%d"] * 3)
        found[name] = rows[:, :3]
        every.append(rows)
    whole = np.random.default_rng(seed).permutation(np.concatenate(every))
    np.savetxt(folder / f"{folder.name}.txt", whole, fmt=["%.3f"] * 3 + ["%d"] * 3)
    return found


def cloud(path: Path, seed: int, count: int = 96) -> np.ndarray:
    """Write a cloud as ascii PLY, or as text or NumPy where its suffix says so; return its points."""
    values = points(seed, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".ply":
        head = f"ply\nformat ascii 1.0\nelement vertex {count}\n" + "".join(f"property float {a}\n" for a in "xyz")
        path.write_text(head + "end_header\n" + "\n".join(" ".join(map(str, row)) for row in values) + "\n")
    elif path.suffix == ".stl":
        import trimesh

        trimesh.creation.icosphere(subdivisions=1, radius=1 + seed / 10).export(path)
    else:
        np.savetxt(path, values, fmt="%.3f")
    return values


def understood(manifest: Manifest) -> str:
    """Return what was understood of the clouds, as one text."""
    return "\n".join(manifest.settings.get("of_clouds", {}).get("understood", []))


def findings(manifest: Manifest) -> dict[str, str]:
    """Return what is wrong with the tree as a whole, by kind."""
    return {kind: what for _, kind, what, _ in manifest.settings.get("of_clouds", {}).get("findings", [])}


def rows_of(root: Path, *settings: str) -> tuple[Manifest, dict[str, dict[str, Any]]]:
    """Index a tree; return the manifest and its rows by path as seen from the root, with the number in its file."""
    manifest = index(root, *settings)
    rows = {}
    for row in manifest.rows():
        name = Path(row["path"]).relative_to(root).as_posix()
        rows[name + (f"#{row['item']}" if name in rows or f"{name}#0" in rows or row["item"] else "")] = row
    return manifest, rows


def class_of(row: dict[str, Any]) -> str:
    """Return the class of a cloud, "" for none."""
    return str(json.loads(row["targets"] or "{}").get("class", ""))


def split_of(rows: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Return the splits of the clouds of each owner."""
    found: dict[str, set[str]] = {}
    for row in rows.values():
        found.setdefault(row["patient"], set()).add(row["split"])
    return found
