"""Whom an agent's certificate must name, and why a connection to one did not come to be."""

import ssl
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp


def server_hostname(url: str, name: str) -> str | None:
    """The name to ask for and to check instead of the URL's host; None if that host is the name, or nothing is checked.

    An address is only the way to a machine, and may lead to another one tomorrow: the machine's own name counts.
    """
    with suppress(ValueError):  # a host that is a name; of a URL that is none the client itself complains
        parts = urlsplit(url)
        ip_address(parts.hostname or "")
        return name or None if parts.scheme == "https" else None
    return None


def reason(error: Exception) -> str:
    """What went wrong with a connection, in a few words for the log."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        says = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)
        return f"its certificate is not the right one: {says}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"no TLS as it should be: {getattr(error.os_error, 'reason', None) or error.os_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {error.os_error.strerror or type(error.os_error).__name__}"
    return type(error).__name__
