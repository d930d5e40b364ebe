"""Whether agents on other machines reach the server of their models, and what their firewall must let through."""

import asyncio
import logging
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from bot.errors import BadSettings
from bot.log import line
from bot.machines.bootstrap import Endpoint

log = logging.getLogger(__name__)

REFUSED = tuple(
    ip_network(each)
    for each in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("fe80::/10", "fc00::/7"),
    )
)
"""What agents are refused, as in bootstrap.sh."""
DEFAULT_PORTS = {"http": 80, "https": 443}


async def private_endpoints(url: str) -> list[Endpoint]:
    """Addresses of this server that a machine's firewall would refuse; none if it is on the internet.

    `BadSettings` if no other machine can reach it.
    """
    host, port = _place(url)
    addresses = await _addresses(host, port)
    reachable = [address for address in addresses if not _is_here_only(address)]
    if addresses and not reachable:
        raise BadSettings(
            f"LLM_BASE_URL: {host} is this host alone, and agents on other machines do not reach it. Write an address "
            "of the server that they reach, in your network or on the internet, and let it listen there"
        )
    return [(str(address), port) for address in reachable if any(address in network for network in REFUSED)]


def _place(url: str) -> Endpoint:
    """Host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        port = None
    if not port or not parts.hostname:
        raise BadSettings("LLM_BASE_URL is not a URL; write https://host:port/v1")
    return parts.hostname, port


async def _addresses(host: str, port: int) -> list[IPv4Address | IPv6Address]:
    """Of the host, each once. None if nobody knows it now: then agents ask for it themselves."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning(line("the models' server has no address now", host=host, why=error))
        return []
    return sorted({_address(str(told[4][0])) for told in found}, key=str)


def _address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _is_here_only(address: IPv4Address | IPv6Address) -> bool:
    """An IPv6 address of one link has no meaning without its interface."""
    return address.is_loopback or address.is_unspecified or (isinstance(address, IPv6Address) and address.is_link_local)
