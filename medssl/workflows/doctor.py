"""``medssl doctor``: what this machine has, what it lacks, and how fast it reads."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from medssl.command import Command
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places

__all__ = ["Diagnosis", "Finding", "doctor", "matching_torchvision"]

OPEN3D_LIBRARIES = {
    "usb-1.0": "libusb-1.0-0",
    "GL": "libgl1",
    "EGL": "libegl1",
    "X11": "libx11-6",
    "idn2": "libidn2-0",
    "udev": "libudev1",
    "gomp": "libgomp1",
}
_PACKAGES = (
    "medssl",
    "torch",
    "torchvision",
    "lightning-fabric",
    "monai",
    "timm",
    "numpy",
    "polars",
    "pydantic",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "blosc2",
    "open3d-cpu",
    "open3d",
    "onnxruntime",
    "typer",
    "rich",
)
_DISK_MIB = 64


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        found: What was found, in a few words.
        hint: What to do about it; "" when all is well.
        fatal: Whether medssl cannot work until it is mended.
    """

    what: str
    found: str
    hint: str = ""
    fatal: bool = False


@dataclass(frozen=True, kw_only=True)
class Diagnosis(Result):
    """What ``medssl.doctor()`` returns.

    Attributes:
        findings: All that was looked at.
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether medssl can work here."""
        return not any(finding.fatal for finding in self.findings)


@takes_places
def doctor(folder: str | Path | None = None) -> Diagnosis:
    """Check the machine, and say what it has and what is missing.

    Args:
        folder: Where to measure disk speed; None is the working folder. Nothing is left there.
    """
    findings: list[Finding] = []
    place = Path(folder) if folder else Path.cwd()
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _versions,
        _pairing,
        _gpu,
        _processors,
        _bfloat16,
        _open3d,
        lambda: _disk(place),
        _window_reads,
        _processes,
    )
    with events.progress(len(looks), "looks") as shown:
        for look in looks:
            findings += look()
            shown.advance()
    events.table("Findings", ("What", "Found", "Hint"), [(f.what, f.found, f.hint) for f in findings])
    bad = [f for f in findings if f.hint]
    if bad:
        events.message(f"\n{len(bad)} of {len(findings)} findings have a hint.", lines=True)
    found = Diagnosis(findings=tuple(findings), next=Command("demo"))
    return events.written(replace(found, figures={"healthy": found.ok}))


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    hint = "" if supported else "medssl supports Python 3.11 to 3.13"
    yield Finding("Python", f"{version}, {platform.system()} {platform.machine()}", hint, fatal=not supported)


def _versions() -> Iterator[Finding]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    yield Finding("Packages", ", ".join(f"{name} {version}" for name, version in found.items()))


def matching_torchvision(torch_version: str, torchvision_version: str) -> str:
    """Return "" when the two belong together, else what is wrong in a sentence.

    torchvision 0.N goes with torch 2.(N - 15) since torch 2.0, and both must be built for the same device: a CPU-only
    torch beside a CUDA torchvision has no operator ``torchvision::nms``.

    Args:
        torch_version: Such as ``2.9.0`` or ``2.9.0+cpu``.
        torchvision_version: Such as ``0.24.0``.

    Example:
        >>> matching_torchvision("2.9.0", "0.24.1"), matching_torchvision("2.9.0+cpu", "0.24.0+cpu")
        ('', '')
    """
    torch_number, _, torch_build = torch_version.partition("+")
    vision_number, _, vision_build = torchvision_version.partition("+")
    minor = int(torch_number.split(".")[1])
    vision_minor = int(vision_number.split(".")[1])
    if torch_number.startswith("2.") and vision_minor != minor + 15:
        return f"torch {torch_number} goes with torchvision 0.{minor + 15}, and {vision_number} is here"
    if torch_build != vision_build:
        return f"torch is built for '{torch_build or 'the index'}', torchvision for '{vision_build or 'the index'}'"
    return ""


def _pairing() -> Iterator[Finding]:
    try:
        versions = importlib.metadata.version("torch"), importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError as error:
        yield Finding("torch and torchvision", f"{error.name} is missing", "make setup", fatal=True)
        return
    fault = matching_torchvision(*versions)
    try:
        import torchvision  # noqa: F401

        works = ""
    except Exception as error:  # a broken pair fails in several ways: RuntimeError, OSError, ImportError
        works = f"import torchvision fails: {error}"
    hint = "" if not works else "install both from one index: pip install --force-reinstall torch torchvision"
    if fault and not works:
        hint = "the pair imports, but was not made together; reinstall both if operators are missing"
    yield Finding("torch and torchvision", works or fault or "a matching pair", hint, fatal=bool(works))


def _gpu() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a damaged install fails in several ways
        yield Finding("GPU", f"torch does not import: {error}", "make setup", fatal=True)
        return
    if not torch.cuda.is_available():
        driver = shutil.which("nvidia-smi")
        hint = "a driver is here, but torch cannot use it: is it too old for this torch?" if driver else ""
        yield Finding("GPU", "none; the CPU is used", hint)
        return
    for index in range(torch.cuda.device_count()):
        made = torch.cuda.get_device_properties(index)
        half = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: 32-bit is used"
        yield Finding(f"GPU {index}", f"{made.name}, {made.total_memory / 2**30:.0f} GiB, {half}")


def _processors() -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{usable} usable processors"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found += f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB memory"
    yield Finding("Processors", found)


def _bfloat16() -> Iterator[Finding]:
    try:
        from medssl.engine.precision import wrong_bf16_convolutions

        fault = wrong_bf16_convolutions()
    except Exception as error:  # a damaged install fails in several ways; another finding says so
        yield Finding("bf16 on the CPU", f"not tried: {error}")
        return
    hint = "keep train.precision at auto or 32-true; GPUs are not concerned" if fault else ""
    yield Finding("bf16 on the CPU", fault or "convolutions agree with float32", hint)


def _open3d() -> Iterator[Finding]:
    missing = [package for library, package in OPEN3D_LIBRARIES.items() if not _has_library(library)]
    code = "import open3d; print(open3d.__version__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    if ran.returncode == 0:
        yield Finding("Open3D (point clouds)", f"{ran.stdout.split()[-1]} imports")
        return
    reason = (ran.stderr.strip().splitlines() or ["it crashed"])[-1]
    hint = f"apt-get install {' '.join(missing)}" if missing else "pip install 'medssl[points]'"
    yield Finding("Open3D (point clouds)", reason, f"{hint}; volumes do not need it")


def _has_library(name: str) -> bool:
    if ctypes.util.find_library(name):
        return True
    places = (
        Path("/usr/lib"),
        Path("/usr/lib") / f"{platform.machine()}-linux-gnu",
        Path("/lib64"),
        Path("/usr/lib64"),
    )
    return any(next(place.glob(f"lib{name}.so*"), None) for place in places if place.is_dir())


def _disk(folder: Path) -> Iterator[Finding]:
    block = os.urandom(2**20)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            started = time.perf_counter()
            for _ in range(_DISK_MIB):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            written_s = time.perf_counter() - started
    except OSError as error:
        yield Finding("Disk", f"{folder}: {error.strerror}", "run doctor where the cache shall lie, with --out")
        return
    free_gib = shutil.disk_usage(folder).free / 2**30
    hint = f"only {free_gib:.0f} GiB are free" if free_gib < 5 else ""
    yield Finding("Disk", f"{folder}: writes {_DISK_MIB / written_s:.0f} MiB/s, {free_gib:.0f} GiB free", hint)


def _window_reads() -> Iterator[Finding]:
    """Measure random 64^3 windows a second out of one chunked int16 array, compressed as the store does it."""
    import numpy as np

    try:
        import blosc2
    except ImportError as error:
        yield Finding("Window reads", str(error), "make setup", fatal=True)
        return
    generator = np.random.default_rng(0)
    z, y, x = np.ogrid[:192, :192, :192]
    smooth = (400 * np.sin(z / 17) * np.cos(y / 23) * np.sin(x / 13)).astype(np.int16)
    values = smooth + generator.integers(-8, 8, smooth.shape, dtype=np.int16)
    with tempfile.TemporaryDirectory() as folder:
        array = blosc2.asarray(
            values,
            urlpath=str(Path(folder) / "probe.b2nd"),
            chunks=(64, 64, 64),
            blocks=(32, 32, 32),
            cparams={"codec": blosc2.Codec.LZ4HC, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE]},
        )
        corners = generator.integers(0, 128, (100, 3))
        started = time.perf_counter()
        for a, b, c in corners:
            array[a : a + 64, b : b + 64, c : c + 64]
        rate = len(corners) / (time.perf_counter() - started)
        ratio = values.nbytes / array.schunk.cbytes
    yield Finding("Window reads", f"{rate:.0f} random 64^3 windows/s from a store, {ratio:.1f}x smaller than raw")


def _processes() -> Iterator[Finding]:
    for method in ("fork", "spawn"):
        if method not in multiprocessing.get_all_start_methods():
            continue
        code = (
            "import multiprocessing as m, time\n"
            "def f(x): return x\n"
            "if __name__ == '__main__':\n"
            "    t = time.perf_counter()\n"
            f"    p = m.get_context('{method}').Process(target=f, args=(1,))\n"
            "    p.start(); p.join()\n"
            "    print(p.exitcode, time.perf_counter() - t)\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "probe.py"
            script.write_text(code, encoding="utf-8")
            ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        words = ran.stdout.split()
        if ran.returncode == 0 and words[:1] == ["0"]:
            yield Finding(f"Processes by {method}", f"start in {float(words[1]) * 1000:.0f} ms")
        else:
            yield Finding(f"Processes by {method}", "fail", "parallel reading will not work; run with one worker")
