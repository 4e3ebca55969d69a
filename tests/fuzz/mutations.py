"""Damage to files: flipped bits, truncation, spans, numbers of headers, words of text. All by number."""

from __future__ import annotations

import gzip
import random
import re
import struct

from tests.fuzz.seeds import Seed

__all__ = ["mutant"]

_WORDS = [
    b"-1", b"0", b"1", b"3", b"99999999", b"2147483647", b"4294967296", b"9223372036854775807", b"18446744073709551616",
    b"1e308", b"1e-320", b"nan", b"inf", b"-inf", b"", b"0x10", b"1_000", b"\xd9\xa3", b"1.5", b"x", b"_", b"_ _",
]  # fmt: skip
# (place, struct code, values): fields of a NIfTI-1 header.
_NIFTI = [
    *((40 + 2 * axis, "<h", [32767, -32768, -1, 0, 1, 2, 4, 7, 1000, 16384]) for axis in range(8)),
    (70, "<h", [0, 1, 2, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 999]),
    (72, "<h", [0, 1, 8, 32, 64, -16]),
    *((76 + 4 * axis, "<f", [0, -1.5, float("nan"), float("inf"), 1e-38, 1e38, -0.0]) for axis in range(8)),
    (108, "<f", [0, 1, 351, 353, 352.5, 400, 1e6, 1e20, -352, float("nan"), float("inf")]),
    (112, "<f", [0, float("nan"), float("inf"), -1, 2, 1e38, 1e-40, 0.5, 70000]),
    (116, "<f", [float("nan"), float("inf"), 1e38, -1024, 0.5]),
    (123, "<B", [0, 1, 2, 3, 7, 255]),
    (252, "<h", [0, 1, 4, 99, -1]),
    (254, "<h", [0, 1, 4, 99, -1]),
    *((256 + 4 * place, "<f", [float("nan"), 2, 0, 1e38]) for place in range(6)),
    *((280 + 4 * place, "<f", [0, float("nan"), float("inf"), 1e38, -1e38, 1e-40]) for place in range(12)),
    (0, "<i", [0, 540, -1, 347, 1543569408]),
]
_HEADER = 400


def mutant(name: str, sound: Seed, seed: int, number: int) -> tuple[bytes, str]:
    """Return a damaged file and what was done to it.

    Args:
        name: Of the format.
        sound: The file.
        seed: Of the run.
        number: Of the mutant; the same four give the same bytes.
    """
    chance = random.Random(f"{name}-{seed}-{number}")
    packed = sound.suffix in (".nii.gz", ".mgz")
    if packed and chance.random() < 0.6:
        inner, what = _damaged(chance, gzip.decompress(sound.content), sound, nifti=name.startswith("nifti"))
        return gzip.compress(inner, 1, mtime=0), f"inside: {what}"
    return _damaged(chance, sound.content, sound, nifti=name.startswith("nifti") and not packed)


def _damaged(chance: random.Random, content: bytes, sound: Seed, *, nifti: bool) -> tuple[bytes, str]:
    kinds = ["flip", "flips", "cut", "tail", "number", "insert", "span", "swap", "magic"]
    weights = [3.0, 2, 3, 1, 3, 1, 1, 1, 0.5]
    if sound.text or sound.suffix in (".mha", ".nrrd"):
        kinds, weights = [*kinds, "word"], [*weights, 6.0]
    if nifti:
        kinds, weights = [*kinds, "field"], [*weights, 6.0]
    kind = chance.choices(kinds, weights)[0]
    raw = bytearray(content)
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else chance.choice([2, 3, 10, 50])):
            raw[_place(chance, raw)] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del raw[chance.randrange(len(raw)) :]
    elif kind == "tail":
        raw += chance.randbytes(chance.choice([1, 7, 100, 5000]))
    elif kind == "insert":
        place = _place(chance, raw)
        raw[place:place] = chance.randbytes(chance.choice([1, 2, 4, 100]))
    elif kind == "span":
        place, size = _place(chance, raw), chance.choice([1, 4, 16, 64])
        raw[place : place + size] = bytes([chance.choice([0, 255, 32])]) * len(raw[place : place + size])
    elif kind == "swap":
        place, size = _place(chance, raw), chance.choice([2, 4, 8])
        raw[place : place + size] = raw[place : place + size][::-1]
    elif kind == "magic":
        raw[:8] = chance.randbytes(8)
    elif kind == "number":
        size = chance.choice([1, 2, 4, 8])
        place = max(0, min(_place(chance, raw), len(raw) - size))
        most = 1 << (8 * size)
        value = chance.choice([0, 1, most - 1, most // 2 - 1, most // 2])
        raw[place : place + size] = value.to_bytes(size, chance.choice(["little", "big"]))
    elif kind == "word":
        found = [match.span() for match in re.finditer(rb"[^\s,:=\[\]{}\"]+", content[:4000])]
        if found:
            begin, end = chance.choice(found[:40] if chance.random() < 0.6 else found)
            raw[begin:end] = chance.choice([*_WORDS, content[begin:end] + b" " + content[begin:end]])
    else:
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            place, code, values = chance.choice(_NIFTI)
            struct.pack_into(code, raw, place, chance.choice(values))
    return bytes(raw), kind


def _place(chance: random.Random, raw: bytearray) -> int:
    """Return a place in the file, that in its beginning, where headers are, as often as any other."""
    return chance.randrange(len(raw)) if chance.random() < 0.5 else chance.randrange(min(len(raw), _HEADER))
