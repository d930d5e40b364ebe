"""Encrypt a stream in bounded memory, so that nothing of it can be read, changed, cut, reordered or exchanged unseen.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) as `age` uses it: chunks of AES-256-GCM whose
nonces count up and tell the last chunk from the others. Each stream has a key of its own, derived (HKDF-SHA256) from
the long-lived one, a random salt and what the stream is: no nonce is ever used twice with a key, and a stream in
another's place does not open.
"""

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bot.errors import SnapshotBroken

MAGIC = b"BAALSNAP"
VERSION = 1
SALT_BYTES = 32
HEADER_BYTES = len(MAGIC) + 1 + SALT_BYTES
KEY_BYTES = 32
CHUNK_BYTES = 1 << 20
TAG_BYTES = 16
SEALED_BYTES = CHUNK_BYTES + TAG_BYTES


class Sealing:
    """Encrypts what it is fed."""

    def __init__(self, key: bytes, context: str) -> None:
        """`context` says what is encrypted; who opens it must say the same."""
        self._header = MAGIC + bytes([VERSION]) + os.urandom(SALT_BYTES)
        self._chunks = _Chunks(key, self._header, context)
        self._plain = bytearray()
        self._out = self._header

    def feed(self, plain: bytes) -> bytes:
        """What is ready of the encrypted stream; perhaps nothing."""
        self._plain += plain
        out, self._out = bytearray(self._out), b""
        # More than one chunk: the last one is sealed as such, and is not empty.
        while len(self._plain) > CHUNK_BYTES:
            out += self._chunks.seal(bytes(self._plain[:CHUNK_BYTES]), is_last=False)
            del self._plain[:CHUNK_BYTES]
        return bytes(out)

    def finish(self) -> bytes:
        """The end of the encrypted stream."""
        return self._out + self._chunks.seal(bytes(self._plain), is_last=True)


class Opening:
    """Decrypts what it is fed; `SnapshotBroken` where it is not what was encrypted."""

    def __init__(self, key: bytes, context: str) -> None:
        self._key = key
        self._context = context
        self._sealed = bytearray()
        self._chunks: _Chunks | None = None

    def feed(self, sealed: bytes) -> bytes:
        """What is proved to be right so far, and was not returned before; perhaps nothing."""
        self._sealed += sealed
        if self._chunks is None:
            if len(self._sealed) < HEADER_BYTES:
                return b""
            self._begin()
        out = bytearray()
        while len(self._sealed) > SEALED_BYTES:
            out += self._open(bytes(self._sealed[:SEALED_BYTES]), is_last=False)
            del self._sealed[:SEALED_BYTES]
        return bytes(out)

    def finish(self) -> bytes:
        """The rest; that there is nothing more, and nothing less, is proved then."""
        if self._chunks is None:
            raise SnapshotBroken("it is cut off within its header")
        return self._open(bytes(self._sealed), is_last=True)

    def _begin(self) -> None:
        header = bytes(self._sealed[:HEADER_BYTES])
        del self._sealed[:HEADER_BYTES]
        if not header.startswith(MAGIC):
            raise SnapshotBroken("it is no snapshot of Baal's")
        if header[len(MAGIC)] != VERSION:
            raise SnapshotBroken(f"its format {header[len(MAGIC)]} is not known here: a newer Baal wrote it")
        self._chunks = _Chunks(self._key, header, self._context)

    def _open(self, sealed: bytes, *, is_last: bool) -> bytes:
        assert self._chunks is not None  # noqa: S101  begun by then
        return self._chunks.open(sealed, is_last=is_last)


class _Chunks:
    """The chunks of one stream, in their order."""

    def __init__(self, key: bytes, header: bytes, context: str) -> None:
        salt = header[-SALT_BYTES:]
        derived = HKDF(SHA256(), length=KEY_BYTES, salt=salt, info=b"baal snapshot\0" + context.encode()).derive(key)
        self._cipher = AESGCM(derived)
        self._header = header
        self._number = 0

    def seal(self, plain: bytes, *, is_last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(is_last=is_last), plain, self._header)

    def open(self, sealed: bytes, *, is_last: bool) -> bytes:
        nonce = self._nonce(is_last=is_last)
        try:
            return self._cipher.decrypt(nonce, sealed, self._header)
        except (InvalidTag, ValueError):  # ValueError: shorter than a tag
            raise SnapshotBroken(f"it was changed or cut, in or before chunk {self._number}") from None

    def _nonce(self, *, is_last: bool) -> bytes:
        self._number += 1
        return struct.pack(">3xQ?", self._number, is_last)
