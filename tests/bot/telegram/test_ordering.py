import asyncio

from bot.telegram.ordering import Lanes


async def test_one_chat_goes_in_order_and_another_does_not_wait_for_it():
    release, handled = asyncio.Event(), []

    async def handle(job):
        if job == "a1":
            await release.wait()
        handled.append(job)

    lanes = Lanes("test", handle)
    for chat, job in ((1, "a1"), (1, "a2"), (2, "b1")):
        lanes.put(chat, job)
    async with asyncio.timeout(30):
        while handled != ["b1"]:
            await asyncio.sleep(0)
    release.set()
    await lanes.drain(timeout=30)

    assert handled == ["b1", "a1", "a2"]


async def test_a_job_that_breaks_does_not_stop_its_lane(caplog):
    handled = []

    async def handle(job):
        if job == "bad":
            raise ValueError(job)
        handled.append(job)

    lanes = Lanes("test", handle)
    lanes.put(1, "bad")
    lanes.put(1, "good")
    await lanes.drain(timeout=30)

    assert handled == ["good"]
    assert "job failed lane=test chat=1" in caplog.text


async def test_what_does_not_end_in_time_is_cancelled():
    ended = []

    async def handle(job):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job)

    lanes = Lanes("test", handle)
    lanes.put(1, "endless")
    await asyncio.sleep(0)

    await lanes.drain(timeout=0)

    assert ended == ["endless"]


async def test_a_lane_begins_anew_after_it_was_empty():
    handled = []

    async def handle(job):
        handled.append(job)

    lanes = Lanes("test", handle)
    lanes.put(1, "first")
    await lanes.drain(timeout=30)
    lanes.put(1, "second")
    await lanes.drain(timeout=30)

    assert handled == ["first", "second"]
