"""The chat page in a real browser: people send files and see those of the bot."""

import pytest
from playwright.async_api import FilePayload, async_playwright, expect

from tests.fakes.telegram_client import TelegramDouble
from tests.fakes.telegram_pictures import png
from tests.needs import CHROMIUM

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


async def test_files_are_sent_with_what_is_written_and_seen():
    picture: FilePayload = {"name": "me.png", "mimeType": "image/png", "buffer": png(200, 100)}
    notes: FilePayload = {"name": "notes <b>.txt", "mimeType": "text/plain", "buffer": b"notes"}
    async with TelegramDouble() as telegram, async_playwright() as playwright:
        person = await telegram.user()
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = await browser.new_page()
        await page.goto(telegram.url)
        await page.get_by_test_id("composer").fill("Both & more")
        await page.get_by_test_id("upload").set_input_files([picture, notes])
        await expect(page.get_by_test_id("bubble").get_by_role("img")).to_be_visible()
        await expect(page.get_by_test_id("file").filter(has_text="notes <b>.txt")).to_be_visible()
        await expect(page.get_by_test_id("composer")).to_have_value("")
        await page.get_by_test_id("upload").set_input_files([notes])
        await expect(page.get_by_test_id("file")).to_have_count(2)
        await browser.close()
        sent = await person.messages()

    assert [(message.text, message.file.kind) for message in sent if message.file] == [
        ("Both & more", "photo"),
        ("", "document"),
        ("", "document"),
    ]
    assert sent[0].album == sent[1].album != ""
    assert sent[2].album == ""
