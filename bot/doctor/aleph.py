"""Whether machines can be rented from Aleph Cloud: wallet, credits, and the network's addresses."""

import asyncio
from typing import Any

import httpx

from bot.doctor.checks import Check, Once
from bot.doctor.findings import Skipped, Wrong
from bot.doctor.web import ask, host, parsed
from bot.machines.aleph.network import Addresses, InstanceStatus, Network, NetworkAway
from bot.machines.aleph.nodes import Size, candidates
from bot.machines.aleph.price import Burn, all_per_second, per_second
from bot.settings import ProviderName, Settings

REQUIRED_HOURS = 24
"""The network takes an instance only if all that run are paid for so long."""
SOON_HOURS = 72
TOP_UP = "https://app.aleph.cloud"
NOBODY = "0x" + "0" * 40
NODE_AWAY = "the message node does not answer"


def checks(settings: Settings, http: httpx.AsyncClient) -> list[Check]:
    """Everything of Aleph's; one line that says so where machines come from elsewhere."""
    if settings.provider is not ProviderName.ALEPH:
        return [Check("wallet", _not_needed(settings))]
    aleph = _Aleph(settings, http)
    return [
        Check("wallet", aleph.wallet, ("aleph_private_key",)),
        Check("message node", aleph.message_node, ("aleph_api_url",)),
        Check("credits", aleph.credits, ("aleph_private_key", "aleph_api_url")),
        Check("rootfs", aleph.rootfs, ("aleph_api_url", "aleph_rootfs")),
        Check("nodes", aleph.nodes, ("aleph_crn_list_url", "aleph_vcpus", "aleph_memory", "aleph_disk")),
        Check("scheduler", aleph.scheduler, ("aleph_scheduler_url",)),
        Check("gateway", aleph.gateway, ("aleph_gateway_url",)),
    ]


def _not_needed(settings: Settings) -> Any:
    async def run() -> str:
        raise Skipped(f"not needed with PROVIDER={settings.provider}")

    return run


class _Aleph:
    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        api, scheduler = settings.aleph_api_url.rstrip("/"), settings.aleph_scheduler_url.rstrip("/")
        gateway = settings.aleph_gateway_url.rstrip("/")
        self._network = Network(Addresses(api, settings.aleph_crn_list_url, scheduler, gateway), http)
        self._size = Size(settings.aleph_vcpus, settings.aleph_memory, settings.aleph_disk)
        # The SDK takes two seconds to load.
        self._address = Once(lambda: asyncio.to_thread(_address, settings))
        self._answer = Once(self._ask_node)

    async def wallet(self) -> str:
        """Whose credits pay."""
        return await self._address.get()

    async def message_node(self) -> str:
        """It answers as one."""
        await self._answer.get()
        return f"{host(self._settings.aleph_api_url)} answers"

    async def credits(self) -> str:
        """They last for a day of what runs and one more, or the network rejects that one."""
        await self._answer.given(NODE_AWAY)
        address = await self._address.given("there is no wallet")
        try:
            balance = await self._network.balance(address)
            running = await self._network.own_instances(address, "")
        except NetworkAway:
            raise Wrong(f"{host(self._settings.aleph_api_url)} does not tell them: try again later") from None
        burn = Burn(balance, all_per_second(running.values()) + per_second(self._size))
        return _judged(burn, f"what runs ({len(running)}) and one more", address)

    async def rootfs(self) -> str:
        """The network knows what machines start from."""
        await self._answer.given(NODE_AWAY)
        try:
            status = (await self._network.verdict(self._settings.aleph_rootfs)).status
        except NetworkAway:
            raise Wrong(f"{host(self._settings.aleph_api_url)} does not tell of it: try again later") from None
        if status is not InstanceStatus.PROCESSED:
            known = "is unknown to the network" if status is InstanceStatus.UNKNOWN else f"is {status} there"
            raise Wrong(f"{self._short_rootfs} {known}: leave ALEPH_ROOTFS out for Debian 12, or correct it")
        return f"{self._short_rootfs} is there"

    async def nodes(self) -> str:
        """How many can take a machine."""
        url = self._settings.aleph_crn_list_url
        listed = parsed(await ask(self._http, url, setting="ALEPH_CRN_LIST_URL")).get("crns")
        if not isinstance(listed, list):
            raise Wrong(f"what {host(url)} answers is no list of nodes: try again later, or correct ALEPH_CRN_LIST_URL")
        rows = [each for each in listed if isinstance(each, dict)]
        fit, size = candidates(rows, self._size, avoid=()), self._size
        wanted = f"{size.vcpus} vCPU, {size.memory} MiB, {size.disk} MiB of disk"
        if not fit:
            remedy = "ask for less (ALEPH_VCPUS, ALEPH_MEMORY, ALEPH_DISK), or wait"
            raise Wrong(f"none of {len(rows)} can take a machine of {wanted}: {remedy}")
        return f"{len(fit)} of {len(rows)} can take a machine of {wanted}"

    async def scheduler(self) -> str:
        """It answers as one."""
        url, setting = self._settings.aleph_scheduler_url.rstrip("/"), "ALEPH_SCHEDULER_URL"
        query = {"owner": NOBODY, "page_size": "1"}
        answer = await ask(self._http, f"{url}/api/v1/vms", setting=setting, query=query)
        if not isinstance(parsed(answer).get("items"), list):
            raise Wrong(_not_one(answer, url, setting))
        return f"{host(url)} answers"

    async def gateway(self) -> str:
        """It answers as one."""
        url, setting = self._settings.aleph_gateway_url.rstrip("/"), "ALEPH_GATEWAY_URL"
        answer = await ask(self._http, f"{url}/api/hash/{self._settings.aleph_rootfs}", setting=setting)
        # It knows of instances alone, so it may say that there is none; in JSON, as no proxy does.
        is_json = "json" in answer.headers.get("content-type", "")
        if answer.status_code not in {httpx.codes.OK, httpx.codes.NOT_FOUND} or not is_json:
            raise Wrong(_not_one(answer, url, setting))
        return f"{host(url)} answers"

    @property
    def _short_rootfs(self) -> str:
        return f"{self._settings.aleph_rootfs[:12]}…"

    async def _ask_node(self) -> None:
        url, setting = self._settings.aleph_api_url.rstrip("/"), "ALEPH_API_URL"
        query = {"msgTypes": "STORE", "pagination": "1"}
        answer = await ask(self._http, f"{url}/api/v0/messages.json", setting=setting, query=query)
        if not isinstance(parsed(answer).get("messages"), list):
            raise Wrong(_not_one(answer, url, setting))


def _judged(burn: Burn, machines: str, address: str) -> str:
    if missing := burn.missing(REQUIRED_HOURS):
        why = f"the network wants {machines} paid for {REQUIRED_HOURS} hours"
        raise Wrong(f"{burn.balance:,}, {missing:,} too few: {why}; top up {address} at {TOP_UP}")
    told = f"{burn.balance:,}, {burn.hours:.0f} hours of {machines}"
    return told if burn.hours >= SOON_HOURS else f"{told}: top up {address} at {TOP_UP} soon"


def _address(settings: Settings) -> str:
    from bot.machines.aleph.wallet import Wallet  # noqa: PLC0415

    if not settings.aleph_private_key.get_secret_value():
        raise Wrong("ALEPH_PRIVATE_KEY is not set: write the private key of the wallet that pays")
    return Wallet(settings.aleph_private_key, settings.aleph_channel).address


def _not_one(answer: httpx.Response, url: str, setting: str) -> str:
    return f"{host(url)} does not answer as one (HTTP {answer.status_code}): try again later, or correct {setting}"
