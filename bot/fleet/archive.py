"""Look through an agent's archive as it streams by: whether it is whole, and what its manifest says.

The form is the agent's: one tar of `agent.db`, the members of the workspace (and what lists them) and, at its end,
`manifest.json`, which has the SHA-256 of the database and of all blocks in between together.
"""

import hashlib
import tarfile
from enum import Enum, auto

from pydantic import ValidationError

from agent.protocol import Manifest
from bot.errors import SnapshotBroken

DATABASE, WORKSPACE, MANIFEST = "agent.db", "workspace", "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000
BLOCK = tarfile.BLOCKSIZE
END_BYTES = 2 * BLOCK
"""Of zeros: what ends a tar archive."""
MAX_END_BYTES = 20 * BLOCK
"""Some fill up their last record."""


class _At(Enum):
    HEADER = auto()
    CONTENT = auto()
    PADDING = auto()
    END = auto()


class _Part:
    """A part of the archive, as it was found."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.size = 0

    def add(self, piece: memoryview) -> None:
        self._digest.update(piece)
        self.size += len(piece)

    @property
    def found(self) -> tuple[int, str]:
        return self.size, self._digest.hexdigest()


class Archive:
    """Fed with all of it, piece by piece, it has the manifest; `SnapshotBroken` as soon as something is wrong."""

    def __init__(self) -> None:
        self._at = _At.HEADER
        self._name = ""
        self._left = 0
        self._padding = 0
        self._header = bytearray()
        self._manifest = bytearray()
        self._database: _Part | None = None
        self._workspace = _Part()
        self._zeros = 0

    def feed(self, piece: bytes) -> None:
        """The next bytes of it."""
        rest = memoryview(piece)
        while rest:
            rest = rest[self._take(rest) :]

    def finish(self) -> Manifest:
        """What it says is in it, once all of it was there and agrees."""
        if self._at is not _At.END or self._zeros < END_BYTES:
            raise SnapshotBroken("the archive ends too early")
        try:
            manifest = Manifest.model_validate_json(bytes(self._manifest))
        except ValidationError as error:
            raise SnapshotBroken(f"its {MANIFEST} is none: {error.error_count()} fields are wrong") from None
        self._compare(manifest)
        return manifest

    def _take(self, rest: memoryview) -> int:
        """Go on by so many bytes."""
        match self._at:
            case _At.HEADER:
                return self._take_header(rest)
            case _At.CONTENT:
                return self._take_content(rest)
            case _At.PADDING:
                return self._take_padding(rest)
            case _At.END:
                return self._take_end(rest)

    def _take_header(self, rest: memoryview) -> int:
        taken = rest[: BLOCK - len(self._header)]
        self._header += taken
        if len(self._header) == BLOCK:
            self._begin(bytes(self._header))
            self._header.clear()
        return len(taken)

    def _begin(self, header: bytes) -> None:
        if not any(header):
            raise SnapshotBroken(f"the archive ends without {MANIFEST}")
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise SnapshotBroken(f"it is no tar archive: {error}") from None
        has_content = not (member.isdir() or member.issym() or member.islnk())
        self._left = member.size if has_content else 0
        self._padding = -self._left % BLOCK
        self._at = _At.CONTENT
        if self._database is None:
            if member.name != DATABASE or not member.isreg():
                raise SnapshotBroken(f"the archive does not begin with {DATABASE}")
            self._database = _Part()
            self._name = DATABASE
        elif member.name == MANIFEST and member.isreg():
            if member.size > MAX_MANIFEST_BYTES:
                raise SnapshotBroken(f"its {MANIFEST} is too big")
            self._name = MANIFEST
        else:
            self._name = WORKSPACE
            self._workspace.add(memoryview(header))

    def _take_content(self, rest: memoryview) -> int:
        taken = rest[: self._left]
        self._left -= len(taken)
        if self._name == MANIFEST:
            self._manifest += taken
        elif self._name == DATABASE and self._database:
            self._database.add(taken)
        else:
            self._workspace.add(taken)
        if not self._left:
            self._at = _At.PADDING
        return len(taken)

    def _take_padding(self, rest: memoryview) -> int:
        taken = rest[: self._padding]
        self._padding -= len(taken)
        if self._name == WORKSPACE:
            self._workspace.add(taken)
        if not self._padding:
            self._at = _At.END if self._name == MANIFEST else _At.HEADER
        return len(taken)

    def _take_end(self, rest: memoryview) -> int:
        self._zeros += len(rest)
        if self._zeros > MAX_END_BYTES or bytes(rest).strip(b"\0"):
            raise SnapshotBroken(f"the archive goes on after {MANIFEST}")
        return len(rest)

    def _compare(self, manifest: Manifest) -> None:
        if manifest.base:
            raise SnapshotBroken("it holds only what differs from what some machine had")
        found = {DATABASE: self._database.found if self._database else (0, "")}
        if self._workspace.size:
            found[WORKSPACE] = self._workspace.found
        told = {part.name: (part.size, part.sha256) for part in manifest.parts}
        if found.keys() != told.keys():
            raise SnapshotBroken(f"its manifest tells of {sorted(told)}, and it holds {sorted(found)}")
        for name, what in found.items():
            if what != told[name]:
                raise SnapshotBroken(f"{name} is not what the manifest says: it was changed or cut")
