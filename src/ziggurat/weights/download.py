"""Bring a file from an https address to the disk, through stalls, cuts and servers that lie.

What has arrived stays in a partial file, so that the next attempt, or the next process, goes on
there; the caller decides whether the whole is what it should be. Written on the standard library,
which honours the proxy variables of the environment: pooch cannot resume, and requests and urllib3
would be new dependencies for the hundred lines below, most of which they would not save.
"""

import json
import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from ziggurat.errors import ZigguratError

Progress = Callable[[int, int | None], None]
"""Is told how many bytes have arrived, and of how many if the server says so."""

BLOCK = 1 << 20
TEMPORARY_CODES = (408, 425, 429)
"""With 500 and above: answers of a server that may answer otherwise later."""


@dataclass(frozen=True)
class Patience:
    """How long to go on with a bad connection.

    Attributes:
        attempts: How often to ask.
        timeout: Seconds without a byte after which a connection counts as stalled.
        pause: Seconds before the second attempt; doubled before each one after it.
    """

    attempts: int = 5
    timeout: float = 30.0
    pause: float = 1.0


class _InterruptedError(Exception):
    """What went wrong with one attempt; the next one may go better."""


def download(
    url: str,
    part: Path,
    *,
    patience: Patience | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Fill a partial file until it holds as much as the server says that there is.

    Args:
        url: Address of the file.
        part: The partial file; what an earlier attempt left there is used if it is of the same
            file, as the server's validator tells.
        patience: How long to go on with a bad connection.
        on_progress: Is told of every block.

    Raises:
        ZigguratError: If the server has no such file, or all attempts failed.
    """
    patience = patience or Patience()
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(patience.attempts):
        if attempt:
            time.sleep(patience.pause * 2 ** (attempt - 1))
        try:
            _transfer(url, part, patience.timeout, on_progress)
        except _InterruptedError as error:
            reason = str(error)
        else:
            _state_file(part).unlink(missing_ok=True)
            return
    kept = part.stat().st_size if _state_file(part).exists() and part.exists() else 0
    then = f"{kept / 1e6:.1f} MB are kept, run again to go on there" if kept else "run again later"
    raise ZigguratError(
        f"{url} could not be downloaded in {patience.attempts} attempts: {reason}; check the "
        f"connection and the proxy variables, {then}"
    )


def _transfer(url: str, part: Path, timeout: float, on_progress: Progress | None) -> None:
    """Ask once and write what comes.

    Raises:
        _InterruptedError: If it ended early.
        ZigguratError: If it went to an unprotected address, or the disk is full.
    """
    validator = _read_validator(url, part)
    response = _ask(url, part, validator, timeout)
    if response is None:
        return
    with response:
        if url.startswith("https:") and not response.url.startswith("https:"):
            raise ZigguratError(
                f"{url} leads to {response.url}, which is not protected; nothing was downloaded"
            )
        start, total = _extent(response, part, validator)
        done = start
        try:
            _write_state(url, part, response, total)
            with open(part, "ab" if start else "wb") as file:
                while block := _next_block(response, timeout):
                    file.write(block)
                    done += len(block)
                    if on_progress is not None:
                        on_progress(done, total)
        except OSError as error:
            raise ZigguratError(
                f"cannot write {part} ({error.strerror or error}); free some space or set "
                "ZIGGURAT_CACHE to another folder, and run again"
            ) from error
    if total is not None and done != total:
        raise _InterruptedError(f"the connection ended after {done} of {total} bytes")


def _ask(url: str, part: Path, validator: str | None, timeout: float) -> HTTPResponse | None:
    """Send the request, for the rest of the file where a part of it is here; None if there is none.

    Raises:
        _InterruptedError: If the server cannot be reached or is busy.
        ZigguratError: If it refuses the file.
    """
    headers = {"User-Agent": "ziggurat", "Accept-Encoding": "identity"}
    if validator is not None:
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": validator}
    try:
        # Not `urlopen`, which looks at the proxy variables once in the life of a process.
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.build_opener().open(request, timeout=timeout)
        assert isinstance(response, HTTPResponse)
        return response
    except HTTPError as error:
        error.close()
        if error.code == 416:
            size = part.stat().st_size
            if size == _read_state(url, part).get("length") and (
                error.headers.get("Content-Range") == f"bytes */{size}"
            ):
                return None
            part.unlink()  # it is no part of what the server has now
            raise _InterruptedError("the server has another file than before") from error
        if error.code >= 500 or error.code in TEMPORARY_CODES:
            raise _InterruptedError(f"the server answered {error.code} {error.reason}") from error
        raise ZigguratError(
            f"{url} cannot be downloaded, the server answered {error.code} {error.reason}; the "
            "file may have moved: get it with a browser and give its path"
        ) from error
    except (OSError, HTTPException) as error:
        raise _InterruptedError(_reason(error, timeout)) from error


def _extent(response: HTTPResponse, part: Path, validator: str | None) -> tuple[int, int | None]:
    """Return where the answer begins and how long the whole file is.

    Raises:
        _InterruptedError: If it begins elsewhere than it was asked to, or is of another file.
    """
    if response.status != 206:  # the whole file, also where a server ignores the request for a part
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    extent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    is_same = validator in (response.headers.get("ETag"), response.headers.get("Last-Modified"))
    if extent is None or int(extent[1]) != part.stat().st_size or not is_same:
        part.unlink()
        raise _InterruptedError("the server sent another part than it was asked for")
    return int(extent[1]), int(extent[2])


def _next_block(response: HTTPResponse, timeout: float) -> bytes:
    """Read what has arrived, nothing at the end.

    Raises:
        _InterruptedError: If the connection broke or stalled.
    """
    try:
        return response.read1(BLOCK)
    except (OSError, HTTPException) as error:
        raise _InterruptedError(_reason(error, timeout)) from error


def _reason(error: OSError | HTTPException, timeout: float) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"nothing came for {timeout:g} seconds"
    return f"the connection failed ({cause or type(cause).__name__})"


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.state")


def _write_state(url: str, part: Path, response: HTTPResponse, length: int | None) -> None:
    """Keep what tells later whether the server still has the same file."""
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
    # A weak validator promises the same meaning, not the same bytes.
    if validator is None or validator.startswith("W/"):
        _state_file(part).unlink(missing_ok=True)
    else:
        state = {"url": url, "validator": validator, "length": length}
        _state_file(part).write_text(json.dumps(state))


def _read_validator(url: str, part: Path) -> str | None:
    """Return the validator of a partial file, or None where it has to begin anew."""
    validator = _read_state(url, part).get("validator")
    return None if validator is None else str(validator)


def _read_state(url: str, part: Path) -> dict[str, Any]:
    """Return what is known of a partial file; nothing where it has to begin anew."""
    try:
        state = json.loads(_state_file(part).read_text())
        is_useful = state["url"] == url and part.stat().st_size > 0
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return dict(state) if is_useful else {}
