"""Reading a published file of weights without executing anything of it, and without believing its sizes.

safetensors holds plain numbers. A file of ``torch.save`` is a pickle: it is read with ``weights_only=True``, which
builds tensors and plain containers alone, and a short list of classes that hold nothing but values. Whatever else it
names is refused, with the names; no option reads it all the same.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import importlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medssl.errors import FormatError

__all__ = ["Container", "read_container", "read_json"]

_HEADER_BYTES = 100_000_000  # what the format itself allows for its header
_JSON_BYTES = 50_000_000
_DEEPEST = 3  # levels of mappings in which tensors are looked for
_ZIP = b"PK\x03\x04"
_AGAIN = "It may be cut short or damaged: download it again, and compare its size with its makers' page"
_SAVE = "Save its state dict alone, where it is from, with torch.save(model.state_dict(), FILE)"
_STARTS = {
    b"version https://git-lfs": "is a pointer of git LFS and not the file itself. Fetch it with: git lfs pull",
    b"\x1f\x8b": "is packed with gzip. Unpack it first",
    b"BZh": "is packed with bzip2. Unpack it first",
    b"\xfd7zXZ": "is packed with xz. Unpack it first",
    b"7z\xbc\xaf": "is packed with 7-Zip. Unpack it first",
    b"\x28\xb5\x2f\xfd": "is packed with Zstandard. Unpack it first",
    b"Rar!": "is packed with RAR. Unpack it first",
    b"\x89HDF": "is HDF5, such as Keras writes. Files of safetensors and torch are read: .safetensors, .pth, .pt",
}
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Container:
    """What a file holds.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        kind: "safetensors" or "torch".
        states: Tensors by name, by the place of their mapping in the file: "" for the outermost, "state_dict",
            "optimizer.state". Places without tensors are left out.
        facts: What is no tensor, by the same places: numbers, text, plans.
    """

    path: Path
    sha256: str
    kind: str
    states: Mapping[str, Mapping[str, Tensor]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_container(path: Path) -> Container:
    """Read a file of weights. Tensors of torch's zip files stay on the disk until they are used.

    Raises:
        FormatError: It is none, is cut short, claims what it does not hold, or would execute something.
    """
    path = Path(path)
    if not path.is_file():
        there = "is no file that could hold weights" if path.exists() else "there is no such file"
        raise FormatError(path, there)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if path.suffix == ".safetensors":
        return Container(path, sha256, "safetensors", {"": _safetensors(path, size)})
    if path.suffix in (".h5", ".hdf5", ".keras"):
        raise FormatError(path, "is a file of Keras. Files of safetensors and torch are read: .safetensors, .pth, .pt")
    if not start:
        raise FormatError(path, f"is empty. {_AGAIN}")
    content = _torch(path, size, zipped=start.startswith(_ZIP))
    states: dict[str, dict[str, Tensor]] = {}
    facts: dict[str, Any] = {}
    for place, name, value in _walked(content):
        if isinstance(value, Tensor):
            _check_size(path, place, name, value)
            states.setdefault(place, {})[name] = value
        else:
            facts[f"{place}.{name}" if place else name] = value
    if not states:
        raise FormatError(path, f"holds no tensor under a name. {_SAVE}")
    return Container(path, sha256, "torch", states, facts)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that lies beside weights.

    Raises:
        FormatError: It is none, too large, or a key occurs twice in it.
    """
    try:
        if path.stat().st_size > _JSON_BYTES:
            raise FormatError(path, f"is larger than {_JSON_BYTES} bytes")
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(path, f"cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise FormatError(path, "is not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in collections.Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"'{twice}' occurs twice")
    return found


def _safetensors(path: Path, size: int) -> dict[str, Tensor]:
    """Check the header against the file, then read it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_HEADER_BYTES, size - 8):
            said = f"its header claims {length} bytes, and the file has {size}. {_AGAIN}"
            raise FormatError(path, _other_kind(path) or said)
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_once)
        for name, row in header.items():
            if name == "__metadata__":
                continue
            first, last = row["data_offsets"]
            wanted = _ITEM_BYTES.get(row["dtype"], 1)
            for count in row["shape"]:
                wanted *= count
            held = size - 8 - length
            if not 0 <= first <= last <= held:
                raise ValueError(f"'{name}' claims the bytes {first} to {last}, and the file holds {held} of numbers")
            if last - first != wanted and row["dtype"] in _ITEM_BYTES:
                raise ValueError(f"'{name}' claims {wanted} bytes by its shape, and has {last - first}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(path, f"its header is damaged ({error}). {_AGAIN}") from error
    try:
        found: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(path, f"cannot be read ({error}). {_AGAIN}") from error
    return found


def _torch(path: Path, size: int, *, zipped: bool) -> Any:
    if zipped:
        _check_zip(path, size)
    try:
        # the numpy scalars of some files come in a spelling that newer numpy warns of
        with warnings.catch_warnings(), torch.serialization.safe_globals(_allowed()):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise FormatError(path, _other_kind(path) or _refusal(path, str(error))) from error
    except (
        RuntimeError,
        ValueError,
        EOFError,
        OSError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        UnicodeDecodeError,
        AssertionError,
        MemoryError,
        OverflowError,
        RecursionError,
    ) as error:
        said = " ".join(str(error).split())[:200]
        said = f"is not a complete file of weights ({type(error).__name__}: {said}). {_AGAIN}"
        raise FormatError(path, _other_kind(path) or said) from error


def _other_kind(path: Path) -> str:
    """Return what a file is that could not be read as weights, and what to do; "" where its bytes do not tell."""
    with path.open("rb") as file:
        start = file.read(512)
    for first, said in _STARTS.items():
        if start.startswith(first):
            return said
    if start[257:262] == b"ustar":
        return "is a tar archive. Unpack it, and name the file of weights in it"
    try:
        text = start.decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return ""
    if text[:9].lower().startswith(("<!doctype", "<html", "<?xml")):
        return "is a web page and not the file that it leads to. Bring the file itself"
    return f"is text, not weights (it begins '{' '.join(text.split())[:40]}'). Bring a .safetensors, .pth or .pt file"


def _check_zip(path: Path, size: int) -> None:
    """Refuse an archive that is packed (torch's are not) or holds a name twice, before anything of it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            rows = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FormatError(path, f"is not a complete archive ({error}). {_AGAIN}") from error
    names = [row.filename for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name, count in collections.Counter(names).items() if count > 1)
        raise FormatError(path, f"its archive holds '{twice}' twice")
    steps = {name: re.split(r"[/\\]", name) for name in names}
    if leaving := next((name for name, parts in steps.items() if not parts[0] or ".." in parts), ""):
        raise FormatError(path, f"its archive holds '{leaving}', a name that leads out of it. torch writes none such")
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise FormatError(path, "is a TorchScript program. Take the state dict from its makers, or save one from it")
    if sum(row.file_size for row in rows) > size or any(row.compress_type != zipfile.ZIP_STORED for row in rows):
        raise FormatError(
            path,
            f"its archive claims {sum(row.file_size for row in rows)} bytes, and the file has {size}. torch's archives "
            "are not packed: unpack it first, or save it anew with torch.save",
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise FormatError(path, "is a zip archive, and none of torch's. Unpack it, and name the file of weights in it")


def _allowed() -> list[Any]:
    """Return the classes beyond torch's own list that published files hold; none of them does anything."""
    multiarray: Any = importlib.import_module("numpy._core.multiarray")
    scalar, rebuilt = multiarray.scalar, multiarray._reconstruct
    kinds = {type(np.dtype(code)) for code in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u4", "u8", "?")}
    return [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        rebuilt,
        (rebuilt, "numpy.core.multiarray._reconstruct"),
        np.dtype,
        np.ndarray,
        *kinds,
        argparse.Namespace,
        collections.defaultdict,
        list,
        dict,
    ]


def _refusal(path: Path, said: str) -> str:
    """Return why a pickle is refused: the names in it that are no weights, listed without running any."""
    try:
        with torch.serialization.safe_globals(_allowed()):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # of a file that is no zip it lists none; what torch said stands below
        names = []
    if names:
        return f"names what is no weights ({', '.join(sorted(names)[:10])}), which is not executed. {_SAVE}"
    if "Unsupported operand" in said and not _begins_as_a_pickle(path):
        return "is not a file of torch or safetensors. Take the .safetensors, .pth or .pt file of its makers"
    first = next((line for line in said.splitlines() if "Unsupported" in line or "global" in line.lower()), said)
    return f"holds more than weights, which is not executed ({' '.join(first.split())[:300]}). {_SAVE}"


def _begins_as_a_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _walked(content: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (place, name, value) of all in nested mappings; deeper ones, and sequences, are values."""
    if isinstance(content, argparse.Namespace):
        content = vars(content)
    if not isinstance(content, Mapping):
        return
    waiting: list[tuple[str, Mapping[Any, Any], int]] = [("", content, 1)]
    while waiting:
        place, mapping, depth = waiting.pop(0)
        for key, value in mapping.items():
            inner = isinstance(value, Mapping) and depth < _DEEPEST and _has_tensors(value, _DEEPEST)
            if inner:
                waiting.append((f"{place}.{key}" if place else str(key), value, depth + 1))
            else:
                yield place, str(key), value


def _has_tensors(value: Any, deep: int) -> bool:
    if isinstance(value, Tensor):
        return True
    return deep > 0 and isinstance(value, Mapping) and any(_has_tensors(one, deep - 1) for one in value.values())


def _check_size(path: Path, place: str, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that claims more numbers than the file holds (a stride of 0 repeats one without end)."""
    kinds = {
        "sparse": tensor.layout != torch.strided,
        "nested": tensor.is_nested,
        "quantised": tensor.is_quantized,
        "empty ('meta')": tensor.is_meta,
    }
    if kind := next((kind for kind, held in kinds.items() if held), ""):
        raise FormatError(path, f"'{f'{place}.' if place else ''}{name}' is a {kind} tensor, which no network here has")
    claimed = tensor.numel() * tensor.element_size()
    held = tensor.untyped_storage().nbytes()
    if claimed > held:
        raise FormatError(path, f"'{name}' claims {claimed} bytes, and the file holds {held} of them")
