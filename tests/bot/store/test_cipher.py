"""What is encrypted can only be opened as a whole, by who has the key and says what it is."""

import random

import pytest

from bot.errors import SnapshotBroken
from bot.store import cipher
from bot.store.cipher import HEADER_BYTES, SEALED_BYTES, Opening, Sealing

KEY = bytes(range(32))


def sealed(plain: bytes, key: bytes = KEY, context: str = "s-1", step: int = 300_000) -> bytes:
    sealing = Sealing(key, context)
    out = b"".join(sealing.feed(plain[start : start + step]) for start in range(0, len(plain), step))
    return out + sealing.finish()


def opened(content: bytes, key: bytes = KEY, context: str = "s-1", step: int = 700_000) -> bytes:
    opening = Opening(key, context)
    out = b"".join(opening.feed(content[start : start + step]) for start in range(0, len(content), step))
    return out + opening.finish()


PLAIN = random.Random(1).randbytes(2 * cipher.CHUNK_BYTES + 5)  # noqa: S311  the same each time


@pytest.mark.parametrize("size", [0, 1, cipher.CHUNK_BYTES - 1, cipher.CHUNK_BYTES, cipher.CHUNK_BYTES + 1, len(PLAIN)])
def test_what_was_sealed_is_opened(size):
    assert opened(sealed(PLAIN[:size])) == PLAIN[:size]


def test_nothing_of_it_can_be_read_and_the_same_never_looks_the_same():
    one, other = sealed(PLAIN), sealed(PLAIN)
    assert one[HEADER_BYTES:] != other[HEADER_BYTES:]
    assert PLAIN[:32] not in one


REGIONS = {
    "magic": 3,
    "version": 8,
    "salt": 9,
    "end of the salt": HEADER_BYTES - 1,
    "first chunk": HEADER_BYTES + 77,
    "tag of the first chunk": HEADER_BYTES + SEALED_BYTES - 1,
    "second chunk": HEADER_BYTES + SEALED_BYTES,
    "last chunk": HEADER_BYTES + 2 * SEALED_BYTES + 2,
    "last byte": -1,
}


@pytest.mark.parametrize("region", REGIONS)
def test_one_changed_bit_anywhere_is_noticed(region):
    content = bytearray(sealed(PLAIN))
    content[REGIONS[region]] ^= 1
    with pytest.raises(SnapshotBroken):
        opened(bytes(content))


@pytest.mark.parametrize(
    "length",
    [0, 5, HEADER_BYTES, HEADER_BYTES + 7, HEADER_BYTES + SEALED_BYTES, HEADER_BYTES + 2 * SEALED_BYTES, -1, -21],
)
def test_it_cannot_be_cut_also_not_between_chunks(length):
    with pytest.raises(SnapshotBroken):
        opened(sealed(PLAIN)[:length])


def test_it_cannot_be_lengthened():
    with pytest.raises(SnapshotBroken):
        opened(sealed(PLAIN) + b"x")


def test_chunks_cannot_be_exchanged_or_left_out():
    content = sealed(PLAIN)
    head, rest = content[:HEADER_BYTES], content[HEADER_BYTES:]
    first, second, last = rest[:SEALED_BYTES], rest[SEALED_BYTES : 2 * SEALED_BYTES], rest[2 * SEALED_BYTES :]
    for chunks in (second + first + last, first + last, second + last, first + first + second + last):
        with pytest.raises(SnapshotBroken):
            opened(head + chunks)


def test_another_s_chunks_and_another_s_header_do_not_fit():
    one, other = sealed(PLAIN), sealed(PLAIN)
    with pytest.raises(SnapshotBroken):
        opened(one[:HEADER_BYTES] + other[HEADER_BYTES:])


def test_it_opens_only_with_its_key_and_as_what_it_is():
    with pytest.raises(SnapshotBroken):
        opened(sealed(PLAIN), key=bytes(32))
    with pytest.raises(SnapshotBroken):
        opened(sealed(PLAIN), context="s-2")


def test_a_newer_format_is_named():
    content = bytearray(sealed(b"x"))
    content[8] = 2
    with pytest.raises(SnapshotBroken, match="newer Baal"):
        opened(bytes(content))
