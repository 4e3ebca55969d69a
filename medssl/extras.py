"""Libraries that one kind of work alone needs: imported when it is done, and named with their extra where missing."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

from medssl.errors import MissingDependencyError

__all__ = ["EXTRAS", "library"]

# Each extra of pyproject.toml, and the modules that it brings.
EXTRAS: dict[str, tuple[str, ...]] = {
    "points": ("h5py", "laspy", "lazrs", "open3d", "trimesh"),
    "dicom-seg": ("highdicom",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
    "ray": ("ray",),
    "nnunet": ("nnunetv2",),
}
# The Debian and Ubuntu packages of the shared libraries that wheels leave to the system.
_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libtbb.so.12": "libtbb12",
    "libc++.so.1": "libc++1",
}


def library(name: str, *, purpose: str) -> ModuleType:
    """Import a library of an extra when it is first needed.

    Args:
        name: Its module, such as "open3d".
        purpose: What it is needed for, as in "to read LAS files".

    Raises:
        MissingDependencyError: It is not installed, or lacks a library of the system; the message names either.
    """
    extra = next(extra for extra, modules in EXTRAS.items() if name.partition(".")[0] in modules)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise MissingDependencyError(f"{name} is needed {purpose}, and itself needs {error.name}.") from error
        raise MissingDependencyError(
            f"{name} is needed {purpose}, and is not installed. Install it with: pip install 'medssl[{extra}]'"
        ) from error
    except (ImportError, OSError) as error:
        found = re.search(r"(lib[\w+.-]*\.so[.\d]*)", str(error))
        if not found:
            raise MissingDependencyError(f"{name} is needed {purpose}, but cannot be loaded: {error}") from error
        shared = found.group(1)
        package = _PACKAGES.get(shared)
        way = f"On Debian or Ubuntu: apt-get install {package}" if package else "Install the package that holds it."
        raise MissingDependencyError(
            f"{name} is needed {purpose}, but the system has no {shared} for it. {way}"
        ) from error
