"""API keys from a file: whose key a request carries. Only names are ever logged or counted.

One key a line, `NAME:KEY`, or `NAME:sha256:HEX` where HEX is what `printf %s KEY | sha256sum`
prints; empty lines and lines that begin with # are left out. A name may have several keys, so that
a new one can be handed out before the old one goes. A changed file is read again within a second;
one that cannot be used is reported, and the keys of before stay.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
LEAST_KEY = 16  # characters of a key that nobody guesses
LOOK_EVERY_S = 1.0
BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)


class ApiKeys:
    """The keys of one file. Raises OSError or ValueError where it cannot be used at the start."""

    def __init__(
        self,
        path: Path,
        log: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._log, self._clock = path, log, clock
        # Keys are looked up by a hash that nobody outside can compute, so that neither the look-up
        # nor the comparison takes longer for a key that is nearly right.
        self._secret = secrets.token_bytes(32)
        self._stamp = _stamp(path)
        self._names = self._read()
        self._next_look = clock() + LOOK_EVERY_S

    def name_of(self, key: str) -> str | None:
        """Whose key it is, None for a key of nobody."""
        self._look()
        return self._names.get(self._mark(hashlib.sha256(key.encode("utf-8", "replace")).digest()))

    def reload(self) -> None:
        """Read the file again; what cannot be used is logged, and the old keys stay."""
        try:
            self._stamp = _stamp(self._path)
            self._names = self._read()
        except (OSError, ValueError) as error:
            self._log(f"the API keys stay as they were: {error}")
        else:
            self._log(f"{len(self._names)} API keys were read from {self._path}")

    def _look(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        try:
            changed = _stamp(self._path) != self._stamp
        except OSError:
            changed = False  # between two versions of the file
        if changed:
            self.reload()

    def _read(self) -> dict[bytes, str]:
        names: dict[bytes, str] = {}
        for number, name, digest in self._entries():
            mark = self._mark(digest)
            if mark in names:
                raise ValueError(f"line {number} of {self._path} repeats a key; give each key once")
            names[mark] = name
        if not names:
            raise ValueError(f"{self._path} holds no API key; write one NAME:KEY a line")
        return names

    def _entries(self) -> Iterator[tuple[int, str, bytes]]:
        """Number of the line, name, SHA-256 of the key."""
        try:
            text = self._path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{self._path} is no text; write one NAME:KEY a line") from None
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, _, key = (part.strip() for part in line.partition(":"))
            # The line itself is not repeated: it may hold a key.
            if not NAME.fullmatch(name) or not key or not key.isascii() or " " in key:
                raise ValueError(
                    f"line {number} of {self._path} must be NAME:KEY or NAME:sha256:HEX, the name "
                    "of letters, digits and . _ @ -, the key without spaces"
                )
            hashed = HASHED.fullmatch(key)
            if key.startswith("sha256:") and not hashed:
                raise ValueError(f"line {number} of {self._path} must have 64 digits after sha256:")
            if not hashed and len(key) < LEAST_KEY:
                self._log(
                    f"the API key of {name} is easily guessed: it has less than {LEAST_KEY} "
                    "characters; make one with: openssl rand -hex 24"
                )
            digest = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(key.encode()).digest()
            yield number, name, digest

    def _mark(self, digest: bytes) -> bytes:
        return hmac.digest(self._secret, digest, "sha256")


def presented(authorization: str | None, api_key: str | None) -> str | None:
    """The key in a request's headers: `api-key: KEY` or `Authorization: Bearer KEY`."""
    if api_key and api_key.strip():
        return api_key.strip()
    found = BEARER.fullmatch(authorization.strip()) if authorization else None
    return found[1] if found else None


def _stamp(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino
