"""The host name under which Aleph's gateway reaches an instance, known before the instance runs.

The top 44 bits of the item hash are four words of BIP-39's English list (docs: automatic domains).
"""

import string
from functools import cache

from eth_account.hdaccount.mnemonic import Mnemonic
from eth_account.types import Language

ZONE = "2n6.me"
HASH_DIGITS, WORDS, WORD_BITS = 64, 4, 11


def gateway_name(item_hash: str, zone: str = ZONE) -> str:
    """The host name of the instance of this hash (64 hexadecimal digits); `ValueError` for anything else."""
    if len(item_hash) != HASH_DIGITS or not set(item_hash) <= set(string.hexdigits):
        raise ValueError(f"not an item hash: {item_hash!r}")
    bits = int(item_hash, 16) >> (4 * HASH_DIGITS - WORDS * WORD_BITS)
    shifts = reversed(range(0, WORDS * WORD_BITS, WORD_BITS))  # the first word has the highest bits
    words = [_list()[bits >> shift & (1 << WORD_BITS) - 1] for shift in shifts]
    return f"{'-'.join(words)}.{zone}"


@cache
def _list() -> list[str]:
    return Mnemonic(Language.ENGLISH).wordlist
