"""An agent's archive to what is stored of it, and back: looked through, hashed, compressed, encrypted, as it streams.

All of this is work for a processor, and is called in threads. What is compressed is a stranger's, and so is how far it
expands: both ways, no more than some megabytes are in memory.
"""

import hashlib
import sys
from dataclasses import dataclass

from agent.protocol import Manifest
from bot.errors import SnapshotBroken
from bot.fleet.archive import Archive
from bot.store.cipher import Opening, Sealing

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor, ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdCompressor, ZstdDecompressor, ZstdError

LEVEL = 3
"""Of zstd: higher ones cost twice the time for a tenth less."""
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """What went in: bytes and SHA-256 of the archive, and its manifest."""

    size: int
    sha256: str
    manifest: Manifest


class Packer:
    """One archive on its way in."""

    def __init__(self, key: bytes, context: str) -> None:
        self._archive = Archive()
        self._digest = hashlib.sha256()
        self._size = 0
        self._compressor = ZstdCompressor(LEVEL)
        self._sealing = Sealing(key, context)

    def feed(self, piece: bytes) -> bytes:
        """What is to be stored next. `SnapshotBroken` where the archive is."""
        self._archive.feed(piece)
        self._digest.update(piece)
        self._size += len(piece)
        return self._sealing.feed(self._compressor.compress(piece))

    def finish(self) -> tuple[bytes, Packed]:
        """What is to be stored last, and what all of it was."""
        manifest = self._archive.finish()
        rest = self._sealing.feed(self._compressor.flush()) + self._sealing.finish()
        return rest, Packed(self._size, self._digest.hexdigest(), manifest)


class Unpacker:
    """One archive on its way out: give it what was stored, take what it was until there is nothing."""

    def __init__(self, key: bytes, context: str) -> None:
        self._opening = Opening(key, context)
        self._decompressor = ZstdDecompressor()
        self._digest = hashlib.sha256()
        self._size = 0
        self._compressed = b""

    def give(self, sealed: bytes) -> None:
        """The next bytes of what is stored."""
        self._compressed += self._opening.feed(sealed)

    def end(self) -> None:
        """There are no more."""
        self._compressed += self._opening.finish()

    def take(self) -> bytes:
        """The next piece of the archive; nothing: give it more, or that was all."""
        compressed, self._compressed = self._compressed, b""
        if self._decompressor.eof:
            if compressed:
                raise SnapshotBroken("something follows on its end")
            return b""
        try:
            piece = self._decompressor.decompress(compressed, PIECE_BYTES)
        except ZstdError as error:
            raise SnapshotBroken(f"it cannot be decompressed: {error}") from None
        self._digest.update(piece)
        self._size += len(piece)
        return piece

    def finish(self, size: int, sha256: str) -> None:
        """All was taken: `SnapshotBroken` unless it is as long as it was, and the same."""
        is_whole = self._decompressor.eof and not self._decompressor.unused_data
        if not is_whole or (self._size, self._digest.hexdigest()) != (size, sha256):
            raise SnapshotBroken("it is not what was put in")
