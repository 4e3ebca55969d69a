"""Large files over HTTP: resumed where they broke off, checked, and in place only when whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medssl.errors import DataError

__all__ = ["download"]

_BLOCK = 1 << 18
_TIMEOUT_S = 60.0
_TRIES = 5  # in a row without a single new byte
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
Progress = Callable[[int, int | None], None]


def download(
    url: str,
    path: Path,
    *,
    algorithm: str,
    checksum: str,
    progress: Progress | None = None,
    pause_s: float = 1.0,
) -> Path:
    """Download a file. What an earlier, interrupted call brought is kept and continued.

    The bytes gather in ``NAME.part``; the file appears under its name once its checksum is right.

    Args:
        url: An http or https address.
        path: Where the file goes. One that is there with the right checksum is left as it is.
        algorithm: "sha256" or "md5".
        checksum: Hexadecimal.
        progress: Called with (bytes so far, bytes in all or None).
        pause_s: Seconds before the first new try; doubled for each that brings nothing.

    Raises:
        DataError: The server refuses, the line keeps breaking, the disk is too small, or the checksum is wrong.
    """
    if path.exists():
        if _digest(path, algorithm) == checksum:
            return path
        raise DataError(
            f"{path} is there and is another file (its {algorithm} differs). Move it away, or choose --out."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part, about = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch(url, part, about, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in {408, 429}:
                raise DataError(
                    f"{url}: the server says {error.code} {error.reason}. Is the address still right?"
                ) from error
            reason: BaseException = error
        except _BROKEN as error:
            reason = error
        failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
        if failures >= _TRIES:
            raise DataError(
                f"{url}: the connection failed {failures} times in a row ({reason}). "
                "Run the same command again: it continues where it stopped."
            ) from reason
        time.sleep(min(30.0, pause_s * 2**failures))
    found = _digest(part, algorithm)
    if found != checksum:
        # Bytes that are known to be wrong would only be continued wrongly the next time.
        part.unlink()
        about.unlink(missing_ok=True)
        raise DataError(
            f"{url}: the {algorithm} of the download is {found}, and should be {checksum}. Nothing was kept. "
            "Try again; if it stays so, the file at the source has changed."
        )
    part.replace(path)
    about.unlink(missing_ok=True)
    return path


def _fetch(url: str, part: Path, about: Path, progress: Progress | None) -> None:
    """Bring what is still missing of one file."""
    have = part.stat().st_size if part.exists() else 0
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(about.read_text(encoding="utf-8"))
    if known.get("url") != url:
        have, known = 0, {}
    if have and known.get("total") == have:
        return  # broken off between the last byte and the check
    with _ask(url, part, have, str(known.get("tag") or "")) as answer:
        resumed = answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        if not resumed:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        tag = str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        # A weak tag may stand for different bytes, and If-Range must not carry one.
        note = {"url": url, "tag": "" if tag.startswith("W/") else tag, "total": total}
        about.write_text(json.dumps(note), encoding="utf-8")
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise DataError(f"{part.parent}: {(total - have) / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free.")
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                if progress:
                    progress(have, total)
        if total is not None and have < total:
            raise ConnectionError(f"the connection closed after {have} of {total} bytes")


def _ask(url: str, part: Path, have: int, tag: str) -> Any:
    """Ask for a file from byte ``have`` on; where it has changed since (by its tag), the server sends all of it."""
    request = urllib.request.Request(url, headers={"User-Agent": "medssl", "Accept-Encoding": "identity"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag:
            request.add_header("If-Range", tag)
    try:
        # The address is http or https: a card's settings hold it to that.
        return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink(missing_ok=True)
        raise ConnectionError("what was there did not fit any more; it is downloaded again") from error


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
