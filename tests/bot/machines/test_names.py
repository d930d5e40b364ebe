"""Names at Aleph's gateway. BIP-39 cuts the bits of a phrase as the gateway those of a hash: its vectors are ours."""

import hashlib

import pytest

from bot.machines.aleph.names import gateway_name
from tests.fakes.aleph_world import ZONE, subdomain


@pytest.mark.parametrize(
    ("begins", "words"),
    [
        # BIP-39's own vectors (trezor/python-mnemonic, vectors.json): the first four words of each.
        ("00000000000000000000000000000000", "abandon-abandon-abandon-abandon"),
        ("7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f", "legal-winner-thank-year"),
        ("80808080808080808080808080808080", "letter-advice-cage-absurd"),
        ("ffffffffffffffffffffffffffffffff", "zoo-zoo-zoo-zoo"),
        ("9e885d952ad362caeb4efe34a8e91bd2", "ozone-drill-grab-fiber"),
        ("77c2b00716cec7213839159e404db50d", "jelly-better-achieve-collect"),
        ("F30F8C1DA665478F49B001D94C5FC452", "vessel-ladder-alter-error"),
        # The example of the gateway's documentation: words 0, 1, 2 and 3 of the list, 11 bits each.
        (f"{1 << 22 | 2 << 11 | 3:011x}", "abandon-ability-able-about"),
        # One bit at each end of each word.
        (f"{1 << 33:011x}", "ability-abandon-abandon-abandon"),
        (f"{1 << 43:011x}", "length-abandon-abandon-abandon"),
        (f"{1 << 10:011x}", "abandon-abandon-abandon-length"),
    ],
)
def test_four_words_of_the_highest_44_bits(begins, words):
    for rest in "0", "f":
        assert gateway_name(begins.ljust(64, rest)) == f"{words}.2n6.me"


def test_the_double_has_the_same_names():
    for number in range(50):
        item_hash = hashlib.sha256(f"{number}".encode()).hexdigest()
        assert gateway_name(item_hash, ZONE) == f"{subdomain(item_hash)}.{ZONE}"


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64, "0" * 63, "0" * 65, " " + "0" * 63, "0x" + "0" * 62, "Qm" * 23])
def test_what_is_no_item_hash_has_no_name(wrong):
    with pytest.raises(ValueError, match="not an item hash"):
        gateway_name(wrong)
