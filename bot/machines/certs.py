"""The bot's own certificate authority: each machine's agent proves with a leaf of it which machine it is on.

Nobody else trusts it, and the bot trusts nobody else. Importing this costs 60 ms: only where agents are elsewhere.
"""

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import SecretStr

from bot.errors import MachineError, Undecryptable
from bot.store.keepsakes import Keepsakes

KEEPSAKE = "certificate-authority"
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
"""Of the authority. Long past: a clock that was ahead when it was made must not make it one of tomorrow."""
END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""Of the authority: "no well-defined end" (RFC 5280, 4.1.2.5). An end would only cut the bot off from all its agents on
one day; what ends the trust in it is that its keepsake goes."""
SKEW = timedelta(days=1)
"""How far behind ours the clock of a machine may be, which looks at its leaf when it starts."""
LIFETIME = timedelta(days=365)
"""Of a leaf. Its key lies on somebody else's disk, so it ends. Every start of a container brings a new one; an agent
that runs longer is refused by the bot, taken for lost and started again with a new leaf, by itself."""
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate and its key, both PEM."""

    certificate: str
    key: SecretStr


class Authority:
    """Issues leaves. Made once, kept ever after."""

    def __init__(self, bundle: SecretStr) -> None:
        """`bundle` is its key and its certificate, one PEM after the other."""
        pem = bundle.get_secret_value().encode()
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"the authority's key is none of an elliptic curve but {type(key).__name__}")
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(pem)

    @classmethod
    async def open(cls, keepsakes: Keepsakes) -> "Authority":
        """The one that is kept, made the first time. `Undecryptable` says what to do."""
        try:
            return cls(await keepsakes.get(KEEPSAKE, _make))
        except Undecryptable as error:
            raise Undecryptable(f"the authority of the agents' certificates stays closed: {error}") from error

    def leaf(self, names: Sequence[str]) -> Leaf:
        """A new certificate for these host names and IP addresses, for a year.

        `MachineError` for what is neither: also for wildcards, with which one machine could pass for another.
        """
        if not names:
            raise MachineError("a certificate must name somebody")
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder("Baal agent", self._certificate.subject, key, begin=now - SKEW, end=now + LIFETIME)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Leaf(_pem(certificate), SecretStr(_pem_key(key)))

    def context(self) -> ssl.SSLContext:
        """For clients: trusts this authority alone, strictly, and takes nothing older than TLS 1.3."""
        context = ssl.create_default_context(cadata=_pem(self._certificate))
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


def _make() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = "Baal certificate authority"
    certificate = (
        _builder(name, _name(name), key, begin=BEGIN, end=END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pem_key(key) + _pem(certificate)


def _builder(
    subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        if not _HOST_NAME.fullmatch(name.lower()):
            raise MachineError(
                f"no certificate can be issued for {name!r}: it is no host name and no address"
            ) from None
        return x509.DNSName(name.lower())


def _usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in wanted for name in _USAGES})


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    kind, open_ = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, open_).decode()
