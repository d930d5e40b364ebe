"""The bot's own authority: what it issues stands up to the strictest readers, and it is the same after a restart."""

import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import SecretStr

from bot.errors import MachineError, Undecryptable
from bot.machines import certs
from bot.machines.certs import Authority
from bot.store.keepsakes import Keepsakes
from bot.store.vault import Vault

NAMES = ["m-0123456789abcdef.baal", "203.0.113.9", "2001:db8::7", "Legal-Winner-thank-year.2n6.me"]


@pytest.fixture
async def authority(database, vault):
    return await Authority.open(Keepsakes(database, vault))


def root(authority):
    """Its certificate, as a client gets to see it."""
    (der,) = authority.context().get_ca_certs(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(der)


def read(leaf):
    return x509.load_pem_x509_certificate(leaf.certificate.encode())


def named(leaf):
    return read(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_a_leaf_names_hosts_and_addresses(authority):
    names = named(authority.leaf(NAMES))

    assert names.get_values_for_type(x509.DNSName) == [NAMES[0], NAMES[3].lower()]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address(NAMES[1]), ip_address(NAMES[2])]


@pytest.mark.parametrize(
    "names",
    [[], [""], ["*.baal"], ["a b"], ["a\nb"], ["https://a.example"], ["a.example:443"], ["ü.example"], ["a" * 64]],
)
def test_what_is_no_name_is_refused(authority, names):
    with pytest.raises(MachineError, match="certificate"):
        authority.leaf(names)


def test_a_leaf_says_that_it_is_a_server_and_nothing_else(authority):
    extensions = read(authority.leaf(NAMES)).extensions

    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_leaf_is_like_another(authority):
    first, second = authority.leaf(NAMES), authority.leaf(NAMES)

    assert read(first).serial_number != read(second).serial_number
    assert read(first).public_key() != read(second).public_key()


def test_a_leaf_is_valid_for_clocks_that_are_behind_and_ends_before_the_authority(authority):
    leaf, issuer = read(authority.leaf(NAMES)), x509.load_pem_x509_certificate(root(authority).encode())
    now = datetime.now(UTC)

    assert issuer.not_valid_before_utc < leaf.not_valid_before_utc < now - timedelta(hours=1)
    assert now + timedelta(days=364) < leaf.not_valid_after_utc < issuer.not_valid_after_utc


def test_the_authority_may_sign_leaves_and_no_other_authorities(authority):
    extensions = x509.load_pem_x509_certificate(root(authority).encode()).extensions

    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature


def test_a_context_trusts_the_authority_alone_and_strictly(authority):
    context = authority.context()

    assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl program")
def test_openssl_finds_nothing_wrong(authority, tmp_path):
    (tmp_path / "ca.pem").write_text(root(authority))
    (tmp_path / "leaf.pem").write_text(authority.leaf(NAMES).certificate)

    for name in (NAMES[0], NAMES[3]):
        asked = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name]
        done = subprocess.run([*asked, "-CAfile", "ca.pem", "leaf.pem"], cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (0, b"leaf.pem: OK\n"), done.stderr
    itself = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", "ca.pem", "ca.pem"]
    assert subprocess.run(itself, cwd=tmp_path, capture_output=True, check=False).stdout == b"ca.pem: OK\n"


async def test_it_is_the_same_after_a_restart(database, vault, authority):
    again = await Authority.open(Keepsakes(database, vault))

    assert root(again) == root(authority)


async def test_two_deployments_have_different_ones(authority):
    assert root(Authority(SecretStr(certs._make()))) != root(authority)


async def test_its_key_cannot_be_read_in_the_database_or_in_what_is_logged(authority, on_disk):
    leaf = authority.leaf(NAMES)

    assert b"PRIVATE KEY" not in on_disk()
    assert "PRIVATE KEY" not in repr(leaf)
    assert "PRIVATE KEY" in leaf.key.get_secret_value()


async def test_it_opens_after_the_encryption_key_was_rotated(database):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    before = await Authority.open(Keepsakes(database, Vault([old])))

    assert root(await Authority.open(Keepsakes(database, Vault([new, old])))) == root(before)


async def test_a_lost_encryption_key_is_told_and_nothing_is_made_anew(database, vault, authority):
    other = Vault([Fernet.generate_key().decode()])

    with pytest.raises(Undecryptable, match=r"authority of the agents' certificates.*BOT_ENCRYPTION_KEY.*put the old"):
        await Authority.open(Keepsakes(database, other))
    assert root(await Authority.open(Keepsakes(database, vault))) == root(authority)
