"""The columns of a manifest, what each holds, and what one that is lacking means."""

from __future__ import annotations

from typing import Any

import polars as pl

__all__ = ["COLUMNS", "DEFAULTS", "REDUCED", "REQUIRED", "SPLITS"]

_WORDS, _NUMBERS, _COUNTS = pl.List(pl.String), pl.List(pl.Float64), pl.List(pl.Int64)

COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,  # unique; safe as a file name
    "path": pl.String,  # the file, or the folder of a DICOM series; absolute
    "paths": _WORDS,  # every file of the scan, in slice order
    "kind": pl.String,  # "volume" or "cloud"
    "format": pl.String,
    "modality": pl.String,  # "CT", "MR", another DICOM modality, or "unknown"
    "units": pl.String,  # "HU" or "arbitrary"
    "patient": pl.String,  # pseudonymous key; equal for scans of one patient
    "patient_rule": pl.String,  # "given", "table", "dataset.json", "bids", "dicom", "folder", "stem", "name"
    "study": pl.String,
    # The contrast: "t1ce", "adc", "0000"; "" where nothing names one; "t1,t2" where the frames of a file are channels.
    "channel": pl.String,
    "case": pl.String,  # equal for the scans that are channels of one case, whose id it is; "" for a scan by itself
    "series": pl.String,
    "shape": _COUNTS,  # (z, y, x)
    "spacing_mm": _NUMBERS,  # (z, y, x)
    "affine": _NUMBERS,  # 16 numbers, row-major; (x, y, z) indices to mm, RAS+
    "orientation": pl.String,
    "dtype": pl.String,
    "frames": pl.Int64,
    "item": pl.Int64,  # clouds: which one of its file, from 0
    "points": pl.Int64,  # clouds: how many points; of a mesh, its vertices
    "extent": _NUMBERS,  # clouds: the sides of its box (x, y, z), in length_unit
    "length_unit": pl.String,  # clouds: "mm", "m" or "unknown"
    "attributes": _WORDS,  # clouds: what each point has besides its place, such as "labels"; "faces" of a mesh
    "p005": pl.Float64,  # intensity at 0.5 %, of finite voxels
    "p50": pl.Float64,
    "p995": pl.Float64,
    "min": pl.Float64,
    "max": pl.Float64,
    "nonfinite": pl.Int64,  # voxels that are NaN or infinite
    "size_bytes": pl.Int64,
    "mtime_ns": pl.Int64,
    "ctime_ns": pl.Int64,  # when the system last touched a file of it; null in manifests of earlier releases
    "inode": pl.Int64,  # of several files a hash of all
    "file_hash": pl.String,  # sha256 of the source bytes
    "content_hash": pl.String,  # of the voxels in canonical orientation, whatever file they came in
    "label_path": pl.String,
    "label_size_bytes": pl.Int64,
    "label_mtime_ns": pl.Int64,
    **dict.fromkeys(("label_ctime_ns", "label_inode"), pl.Int64),
    "label_file_hash": pl.String,
    "label_values": _COUNTS,  # the classes that occur, 0 included
    "label_voxels": _COUNTS,  # how many voxels, or points, each of them has
    "targets": pl.String,  # JSON: classes of the patient or the scan by name, such as {"diagnosis": "DCM"}
    "split": pl.String,  # "train", "val", "test" or ""
    "flags": _WORDS,
    "notes": _WORDS,  # what the reader noticed, in sentences
    "fields": pl.String,  # JSON: header values that may be kept, and what the header itself said of modality and units
    "error": pl.String,  # why the scan cannot be read; null where it can
    # What `medssl reduce` says; a manifest that was not reduced keeps every scan.
    "keep": pl.Boolean,  # false: left out of the store and of training
    "group": pl.String,  # equal for scans that must lie on one side of a split
    "level": pl.String,  # what it is to the scan that stands for it, such as "same image"
    "reason": pl.String,  # why it is kept or left out, in words
    "distance": pl.Float64,  # to the scan that stands for it, as the strategy measures it
    "score": pl.Float64,  # how well the two agree, 1 for equal arrays; null where nobody looked
    "representative": pl.String,  # id of the scan that stands for it; its own where it stands for itself
}
REDUCED = ("keep", "group", "level", "reason", "distance", "score", "representative")
SPLITS = ("train", "val", "test", "")
REQUIRED = ("id", "path")
DEFAULTS: dict[str, Any] = {
    "kind": "volume",
    "split": "",
    "modality": "unknown",
    "units": "arbitrary",
    "frames": 1,
    "keep": True,
    "channel": "",
    "case": "",
    "patient_rule": "",
}
