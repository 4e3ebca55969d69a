"""``medssl copy``: a preset as a file of one's own."""

from __future__ import annotations

from pathlib import Path

from medssl.errors import ConfigError
from medssl.presets import find_preset
from medssl.quoting import quoted
from medssl.writing import atomic_write
from pipelines import console
from pipelines.validate import verb_of

__all__ = ["copy_preset"]


def copy_preset(name: str, out: Path, *, dry_run: bool = False) -> Path:
    """Copy a preset to a new file, and return the file.

    Args:
        name: The preset, such as ``voco`` or ``pretrain/voco``.
        out: Where to; a folder takes the preset's own name. An existing file is never written over.
        dry_run: Only say what would be written.

    Raises:
        ConfigError: There is no such preset, or ``out`` exists.
    """
    source = find_preset(name)
    target = out / source.name if out.is_dir() else out
    if target.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"{target}: a settings file must end with .yaml. Try {target}.yaml")
    if target.exists():
        raise ConfigError(f"{target}: exists, and is not written over. Choose another name.")
    if dry_run:
        console.say(f"would copy {source} to {target}")
        console.done(None, f"medssl copy {quoted(name)} {quoted(out)}")
        return target
    text = source.read_text(encoding="utf-8")
    with atomic_write(target) as aside:
        aside.write_text(text, encoding="utf-8")
    console.done(target, f"medssl {verb_of(source)} {quoted(target)}")
    return target
