"""Time and memory of ``medssl import`` of a file of 1.2 GB: a Swin of VoCo-L's size with its heads.

    python benchmarks/import_weights.py [GIGABYTES]

The file is made with random numbers, imported in a process of its own, and thrown away. Beside the time stand processor
time, the most memory that the process held, libraries and all, and the time of reading and hashing the file alone.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE_GB = 1.2


def make(path: Path, size_gb: float) -> int:
    """Write a VoCo-L of random numbers, with heads that fill the file up; return its bytes."""
    import torch

    from medssl.encoders.table import build_encoder

    width = 96 if size_gb >= 1 else 48
    state = build_encoder({"name": "swin", "feature_size": width}).state_dict()
    kept = {f"module.backbone.{name}": tensor for name, tensor in state.items() if not name.startswith("pooling")}
    rest = int(size_gb * 1e9) - sum(t.numel() * t.element_size() for t in kept.values())
    for side in ("student", "teacher"):
        kept[f"module.{side}.layer1.0.weight"] = torch.zeros(max(1, rest // 8))
    torch.save({"state_dict": kept, "epoch": 1}, path)
    return path.stat().st_size


def imported(path: Path, out: Path) -> None:
    """Import in this process and print what it took."""
    from medssl.workflows.import_weights import import_weights

    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    import_weights(path, out=out, named="voco")
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "peak_gb": after.ru_maxrss * 1024 / 1e9,
            }
        )
    )


def main() -> None:
    """Make the file, import it, and print the figures."""
    if sys.argv[1:2] == ["--one"]:
        imported(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    size_gb = float(sys.argv[1]) if len(sys.argv) > 1 else SIZE_GB
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "VoCo_L_SSL_head.pt"
        size = make(path, size_gb)
        start = time.perf_counter()
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        hashed = time.perf_counter() - start
        called = [sys.executable, __file__, "--one", str(path), str(Path(folder) / "run")]
        said = subprocess.run(called, check=True, capture_output=True, text=True).stdout
        figures = json.loads(said.strip().splitlines()[-1])
    print(f"file: {size / 1e9:.2f} GB; reading and hashing it alone: {hashed:.1f} s")
    print(", ".join(f"{name}: {value:.2f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
