import time

from tests.bot.doctor.conftest import NOBODY


async def test_a_right_clock(doctor, telegram, libertai):
    await doctor()

    hosts = [double.url.removeprefix("http://") for double in (telegram, libertai)]
    assert doctor["clock"] in [f"✓ as {host}'s" for host in hosts]


async def test_a_wrong_clock(doctor, telegram):
    doctor.set(LIBERTAI_GATEWAY=NOBODY)
    host = telegram.url.removeprefix("http://")
    await doctor(now=lambda: time.time() + 3600)
    assert doctor["clock"].startswith("✗ 36")
    assert doctor["clock"].endswith(f" s ahead of {host}'s: keep it by NTP (timedatectl set-ntp true)")

    await doctor(now=lambda: time.time() - 90)
    assert f" s behind {host}'s: keep it by NTP" in doctor["clock"]


async def test_a_minute_is_tolerated(doctor):
    await doctor(now=lambda: time.time() + 50)

    assert doctor["clock"].startswith("✓")


async def test_nobody_to_compare_with(doctor):
    doctor.set(LIBERTAI_GATEWAY=NOBODY, TELEGRAM_API_BASE=NOBODY)
    await doctor()

    assert doctor["clock"] == "· not checked: no server told its time"
