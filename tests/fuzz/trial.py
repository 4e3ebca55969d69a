"""One mutant read by medssl, and then beside a second reader. Runs in a worker, for either may end its process."""

from __future__ import annotations

import os
import shutil
import traceback
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import FormatError
from tests.fuzz.mutations import mutant
from tests.fuzz.second_readers import Read, difference, second
from tests.fuzz.seeds import Seed, seed_of

__all__ = ["Outcome", "compared", "tried"]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        kind: "refused", "read", "alike", "different" (and said), "silent" (different, and nothing said), "foreign" (an
            error that is not medssl's), "unnamed" (an error without the file), "death", "hang", "memory".
        what: The damage.
        said: The error, the difference, or why the process died.
    """

    kind: str
    what: str = ""
    said: str = ""


def tried(name: str, seed: int, number: int, scratch: str) -> Outcome:
    """Read one mutant as `index` would."""
    sound = seed_of(name)
    content, what = mutant(name, sound, seed, number)
    path = _written(sound, content, Path(scratch), name)
    try:
        _read(sound, path)
    except FormatError as error:
        named = path.name in str(error) or path.parent.name in str(error)
        return Outcome("refused" if named else "unnamed", what, error.reason)
    except Exception:
        return Outcome("foreign", what, traceback.format_exc()[-600:])
    return Outcome("read", what)


def compared(name: str, seed: int, number: int, scratch: str) -> Outcome:
    """Compare what medssl reads from a mutant that it accepts with what another reader does."""
    sound = seed_of(name)
    content, what = mutant(name, sound, seed, number)
    path = _written(sound, content, Path(scratch), name)
    try:
        mine, warned = _read(sound, path)
    except FormatError as error:  # read a moment ago, and now there was no memory for it
        return Outcome("refused", what, error.reason)
    other = second(name, path)
    if other is None:
        return Outcome("read", what)
    differs = difference(name, mine, other)
    if not differs:
        return Outcome("alike", what)
    return Outcome("different" if warned else "silent", what, differs)


def _written(sound: Seed, content: bytes, scratch: Path, name: str) -> Path:
    folder = scratch / f"{name}-{os.getpid()}"
    if not folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for beside, sound_bytes in sound.beside.items():
            (folder / beside).write_bytes(sound_bytes)
    path = folder / f"mutant{sound.suffix}"
    path.write_bytes(content)
    return path


def _read(sound: Seed, path: Path) -> tuple[Read, bool]:
    """Return values and voxel size, and whether anything was said of them."""
    if sound.cloud:
        from pointcloud.formats import reading as clouds

        cloud = clouds.read(path, samples=0)
        return (cloud.positions(), None), bool(cloud.warnings)
    from medssl.formats import reading

    scan = reading.read(path.parent if sound.folder else path)
    return (scan.values, tuple(scan.header.spacing_mm)), bool(scan.header.warnings)
