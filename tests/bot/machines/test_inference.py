"""Which servers of models agents on other machines reach."""

import asyncio
import re
import socket

import pytest

from bot.errors import BadSettings
from bot.machines.bootstrap import script
from bot.machines.inference import REFUSED, private_endpoints


@pytest.fixture
def known(monkeypatch):
    """`known({name: addresses})`: what names mean."""

    def teach(names):
        async def getaddrinfo(_self, host, port, *, type):  # noqa: A002
            if host not in names:
                raise socket.gaierror(-2, "Name or service not known")
            return [
                (socket.AF_INET6 if ":" in each else socket.AF_INET, type, 6, "", (each, port)) for each in names[host]
            ]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)

    return teach


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("http://192.168.1.5:8000/v1", [("192.168.1.5", 8000)]),
        ("http://172.17.0.1/v1", [("172.17.0.1", 80)]),
        ("https://100.64.0.9/v1", [("100.64.0.9", 443)]),
        ("http://[fd00:77::1]:8000/v1", [("fd00:77::1", 8000)]),
        ("http://[::ffff:10.0.0.5]:8000/v1", [("10.0.0.5", 8000)]),
        ("https://203.0.113.9:8000/v1", []),
        ("https://[2001:db8::1]/v1", []),
    ],
)
async def test_a_private_address_is_let_through_with_its_port(url, endpoints):
    assert await private_endpoints(url) == endpoints


async def test_a_name_is_what_it_means_now(known):
    known({"models.lan": ["fd00::5", "192.168.1.5", "192.168.1.5", "2001:db8::1", "127.0.1.1"]})
    assert await private_endpoints("http://models.lan:8000/v1") == [("192.168.1.5", 8000), ("fd00::5", 8000)]


async def test_a_name_that_nobody_knows_now_stops_nothing(known, caplog):
    known({})
    assert await private_endpoints("https://api.example.org/v1") == []
    assert "api.example.org" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[fe80::1]"])  # noqa: S104
async def test_what_no_other_machine_reaches_is_said(host):
    with pytest.raises(BadSettings, match=r"LLM_BASE_URL: .* is this host alone.*Write an address"):
        await private_endpoints(f"http://{host}:8000/v1")


@pytest.mark.parametrize(
    "url", ["api.example.org/v1", "http:///v1", "http://a:port/v1", "ftp://a/v1", "http://[::1/v1"]
)
async def test_what_is_no_url_is_said(url):
    with pytest.raises(BadSettings, match="is not a URL; write https://host:port/v1"):
        await private_endpoints(url)


def test_what_it_takes_for_refused_is_what_the_firewall_refuses():
    refused = " ".join(re.findall(r'^PRIVATE[46]="(.*)"$', script(), re.MULTILINE)).split()
    assert refused == [str(network) for network in REFUSED]
