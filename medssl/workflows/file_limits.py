"""The settings that say what one file may cost, for every verb that reads a user's files."""

from __future__ import annotations

from contextlib import AbstractContextManager

from pydantic import Field

from medssl.pool import FILE_MEMORY, FILE_SECONDS, file_limits
from medssl.settings import Settings

__all__ = ["FileLimits"]


class FileLimits(Settings):
    """What reading one file may cost before it is named and left out."""

    file_seconds: float = Field(default=300.0, ge=0, allow_inf_nan=False, description=FILE_SECONDS)
    file_memory_gb: float = Field(default=0.0, ge=0, allow_inf_nan=False, description=FILE_MEMORY)

    def limits(self) -> AbstractContextManager[None]:
        """Return the context in which files are read under these limits."""
        return file_limits(seconds=self.file_seconds, memory_gb=self.file_memory_gb)
