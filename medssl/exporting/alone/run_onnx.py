"""Run an exported network on scans, with numpy, nibabel and onnxruntime alone.

    python run_onnx.py NETWORK.onnx OUT SCAN.nii.gz [SCAN.nii.gz ...]

The JSON beside the network says what it takes. Several channels of a case are joined with commas, in the JSON's order:
t1.nii.gz,flair.nii.gz. A segmenter writes OUT/NAME_seg.nii.gz on the scan's own grid; a classifier OUT/classes.json; an
encoder OUT/embeddings.npz, one vector a scan, of the body fitted to the window (medssl embed coverage=fitted).
"""

import json
import sys
from itertools import combinations, product
from pathlib import Path

import nibabel
import numpy as np
import onnxruntime
from medssl_input import to_stored, weights_along
from nibabel import orientations

_RAS = np.array([[0, 1], [1, 1], [2, 1]])


def load(paths):
    """Return the channels of a case, (z, y, x) in RAS+ order, their voxel size (z, y, x), and the first file."""
    images = [nibabel.load(path) for path in paths]
    turn = orientations.io_orientation(images[0].affine)
    for image, path in zip(images, paths, strict=True):
        if image.shape != images[0].shape or not np.allclose(image.affine, images[0].affine, atol=1e-3):
            sys.exit(f"{path}: lies on another grid than {paths[0]}. Resample it first.")
        if image.ndim != 3:
            sys.exit(f"{path}: has {image.ndim} axes; a scan has 3.")
    values = [orientations.apply_orientation(np.asanyarray(i.dataobj), turn).transpose(2, 1, 0) for i in images]
    sizes = np.sqrt((images[0].affine[:3, :3] ** 2).sum(axis=0))
    return values, sizes[turn[:, 0].argsort()][::-1], images[0]


def outputs_of(session, images):
    """Return the outputs of a batch, by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": np.ascontiguousarray(images, np.float32)}), strict=True))


def segment(session, said, case):
    """Return probabilities on the case's grid, (classes, z, y, x): windows overlap, logits blend with Gaussians."""
    how, window = said["predicting"], said["input"]["window_zyx"]
    image, outside = case.as_input(case.values), case.as_input(case.fills.reshape(-1, 1, 1, 1))
    axes = ["zyx".index(axis) + 1 for axis in how["mirror"]]
    flips = [flip for n in range(len(axes) + 1) for flip in combinations(axes, n)]
    total = 0.0
    for flip in flips:
        found = _slide(session, np.flip(image, flip), outside, window, how)
        if how["regions"]:
            found = 1.0 / (1.0 + np.exp(-found))
        else:
            found = np.exp(found - found.max(axis=0))
            found /= found.sum(axis=0)
        total = total + np.flip(found, flip) / len(flips)
    return total


def _slide(session, image, outside, window, how):
    lacking = [max(0, w - n) for w, n in zip(window, image.shape[1:], strict=True)]
    padded = np.broadcast_to(
        outside, (len(image), *(n + m for n, m in zip(image.shape[1:], lacking, strict=True)))
    ).copy()
    inner = (slice(None), *(slice(m // 2, m // 2 + n) for n, m in zip(image.shape[1:], lacking, strict=True)))
    padded[inner] = image
    weight = np.ones((1, 1, 1))
    starts = []
    for length, own in zip(padded.shape[1:], window, strict=True):
        step = own * (1 - how["overlap"])
        step = own if own == length else step if how["steps"] == "even" else max(1, int(step))
        count = 1 + max(0, int(np.ceil((length - own) / step)))
        if how["steps"] == "even":
            step = (length - own) / max(1, count - 1)
        starts.append([min(round(number * step), length - own) for number in range(count)])
        middle = own // 2 if how["steps"] == "even" else (own - 1) / 2.0
        place = (np.arange(own) - middle) / (own / 8.0)
        weight = weight[..., None] * np.exp(-0.5 * place**2) if len(starts) > 1 else np.exp(-0.5 * place**2)
    even = how["steps"] == "even"  # nnU-Net's way: weights up to 10, and all in half precision
    if even:
        weight = _halved((10.0 * weight / weight.max()).astype(np.float32))
        weight = np.where(weight > 0, weight, weight[weight > 0].min())
    weight = weight if even else np.maximum(weight, max(weight.min(), 1e-3)).astype(np.float32)
    sums = weights = 0.0
    for corner in product(*starts):
        place = tuple(slice(a, a + n) for a, n in zip(corner, window, strict=True))
        logits = outputs_of(session, padded[None, :, *place])["logits"][0]
        if np.isscalar(sums):
            sums = np.zeros((len(logits), *padded.shape[1:]), np.float32)
            weights = np.zeros(padded.shape[1:], np.float32)
        for total, at, more in ((sums, (slice(None), *place), logits * weight), (weights, place, weight)):
            total[at] = _halved(total[at] + more) if even else total[at] + more
    return (_halved(sums / weights) if even else sums / weights)[inner]


def _halved(values):
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(rounded), rounded, values)


def label_map(found, said, case, shape):
    """Return the label map on the file's grid in RAS+ order, (z, y, x), of probabilities on the case's grid."""
    shape = tuple(shape)
    inside = np.ones(shape, bool)
    cut = (1e-38, 1.0 - 2.0**-24) if said["predicting"]["steps"] == "even" and found.shape[1:] != shape else None
    if cut is not None:  # logits are interpolated, as nnU-Net does; of regions each by itself
        found = found.clip(*cut)
        found = np.log(found / (1.0 - found)) if said["predicting"]["regions"] else np.log(found)
    for axis, length in enumerate(shape):
        places = (np.arange(length) + 0.5) / case.ratio[axis] - 0.5 - case.first[axis]
        extent = found.shape[1 + axis]
        rows = weights_along(extent, places, 1).astype(np.float32)
        found = np.moveaxis(np.tensordot(rows, found, (1, 1 + axis)), 0, 1 + axis)
        within = (places >= -0.5) & (places <= extent - 0.5)
        inside &= within.reshape([-1 if a == axis else 1 for a in range(3)])
    result = np.zeros(shape, np.int16)
    if said["predicting"]["regions"]:
        for channel, written in enumerate(said["structures"]):
            result[found[channel] > (0.5 if cut is None else 0.0)] = written
    else:
        result = np.asarray(said["structures"], np.int16)[found.argmax(axis=0)]
    return np.where(inside, result, 0)


def fitted(said, case):
    """Return the body of a case fitted to the network's window, (1, C, z, y, x)."""
    size = said["input"]["window_zyx"]
    low, high = case.box
    if said.get("looks_at", {}).get("fit") == "crop":
        first, extent = [(a + b - n) // 2 for a, b, n in zip(low, high, size, strict=True)], size
    else:
        spacing = np.asarray(said["input"]["spacing_mm_zyx"])
        pixel = max((high - low)[1:] * spacing[1:] / size[1:])
        rows = [max(1, round(n * pixel / s)) for n, s in zip(size[1:], spacing[1:], strict=True)]
        extent = [int(high[0] - low[0]), *rows]
        first = [int(low[0]), *((a + b - n) // 2 for a, b, n in zip(low[1:], high[1:], rows, strict=True))]
    window = np.broadcast_to(case.fills.reshape(-1, 1, 1, 1), (len(case.values), *extent)).astype(np.float32)
    cut = [
        slice(max(0, a), max(0, min(n, a + e))) for a, e, n in zip(first, extent, case.values.shape[1:], strict=True)
    ]
    window[:, *(slice(c.start - a, c.stop - a) for c, a in zip(cut, first, strict=True))] = case.values[:, *cut]
    for axis, (have, want) in enumerate(zip(extent, size, strict=True), start=1):
        if want < have:  # averaged over stretches that may share a voxel
            stretches = [(n * have // want, -(-(n + 1) * have // want)) for n in range(want)]
            parts = [window.take(range(a, b), axis).mean(axis, keepdims=True) for a, b in stretches]
            window = np.concatenate(parts, axis)
    for axis, (have, want) in enumerate(zip(window.shape[1:], size, strict=True), start=1):
        if want > have:
            rows = weights_along(have, (np.arange(want) + 0.5) * have / want - 0.5, 1)
            window = np.moveaxis(np.tensordot(rows, window, (1, axis)), 0, axis)
    changed = list(extent) != list(size)
    return case.as_input(np.rint(window) if changed else window)[None]


def main(network, out, *scans):
    """Run the network on each scan."""
    said = json.loads(Path(network).with_suffix(".json").read_text(encoding="utf-8"))
    if said["kind"] == "classifier" and said["looks_at"]["level"] != "volume":
        sys.exit(f"{network}: looks at slices ({said['looks_at']['level']}); the JSON says how they are cut.")
    session = onnxruntime.InferenceSession(network, providers=onnxruntime.get_available_providers())
    Path(out).mkdir(parents=True, exist_ok=True)
    vectors, classes = {}, []
    for scan in scans:
        paths = scan.split(",")
        if len(paths) != len(said["input"]["channels"]):
            names = ",".join(channel["name"] for channel in said["input"]["channels"])
            sys.exit(f"{scan}: the network takes the channels {names}, a file each, joined with commas.")
        values, spacing, source = load(paths)
        case = to_stored(values, spacing, said["input"]["preparing"])
        name = Path(paths[0]).name.removesuffix(".gz").removesuffix(".nii")
        if said["kind"] == "segmenter":
            found = label_map(segment(session, said, case), said, case, values[0].shape).transpose(2, 1, 0)
            back = orientations.ornt_transform(_RAS, orientations.io_orientation(source.affine))
            written = nibabel.Nifti1Image(orientations.apply_orientation(found, back), source.affine)
            nibabel.save(written, Path(out) / f"{name}_seg.nii.gz")
        elif said["kind"] == "classifier":
            chance = outputs_of(session, fitted(said, case))["probability"][0]
            cut = said["decision"]["threshold"]
            best = int(chance[1] >= cut) if cut is not None and len(chance) == 2 else int(chance.argmax())
            shown = {label: float(p) for label, p in zip(said["classes"], chance, strict=True)}
            classes.append({"scan": name, "predicted": said["classes"][best], "probability": shown})
        else:
            vectors[name] = outputs_of(session, fitted(said, case))["embedding"][0]
    if classes:
        (Path(out) / "classes.json").write_text(json.dumps(classes, indent=1, ensure_ascii=False), encoding="utf-8")
    if vectors:
        np.savez(Path(out) / "embeddings.npz", names=list(vectors), vectors=np.stack(list(vectors.values())))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
