"""The demo page in a real browser: make an agent, talk to it, open its link as somebody else."""

import os
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from tests.needs import CHROMIUM

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture
def shots(tmp_path) -> Path:
    """Where screenshots go: SCREENSHOTS, to look at them."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest_asyncio.fixture(loop_scope="module")
async def page():
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        opened = await browser.new_page(viewport={"width": 1100, "height": 900})
        yield opened
        await browser.close()


async def say(page: Page, text: str) -> None:
    await page.get_by_test_id("composer").fill(text)
    await page.get_by_test_id("send").click()


async def tap(page: Page, words: str) -> None:
    await page.get_by_test_id("inline-button").filter(has_text=words).last.click()


async def shows(page: Page, words: str, *, timeout: float = 20_000) -> None:
    await expect(page.get_by_test_id("bubble").filter(has_text=words).last).to_be_visible(timeout=timeout)


async def test_the_main_job_in_the_chat_page(baal, page, shots):
    await baal.libertai.pace(first_token_seconds=0.2, tokens_per_second=40)
    await page.goto(baal.telegram.url)
    await page.get_by_test_id("start").click()
    await shows(page, "your own AI agent")
    await page.screenshot(path=shots / "1-welcome.png")

    await say(page, "/create")
    await shows(page, "What should it be called?")
    await say(page, "Chef Ada")
    await shows(page, "job?")
    await tap(page, "Cook")
    await shows(page, "Pick a model")
    await page.screenshot(path=shots / "2-model.png")
    await tap(page, "scripted")
    await shows(page, "Who may use it")
    await page.screenshot(path=shots / "3-check.png")
    await tap(page, "Deploy")
    await shows(page, "Deploying Chef Ada")
    await page.screenshot(path=shots / "4-deploying.png")
    await shows(page, "Chef Ada is live", timeout=60_000)
    await page.screenshot(path=shots / "5-live.png")
    link = (
        await page.get_by_test_id("bubble")
        .filter(has_text="is live")
        .last.get_by_role("link")
        .first.get_attribute("href")
    )

    await tap(page, "Chat")
    await shows(page, "You are talking to your agent")
    await say(page, "What can I cook with eggs?")
    await expect(page.get_by_test_id("inline-button").filter(has_text="Stop")).to_be_visible(timeout=20_000)
    await page.screenshot(path=shots / "6-streaming.png")
    await shows(page, "ask me again", timeout=60_000)
    await page.screenshot(path=shots / "7-answer.png")

    await page.get_by_test_id("user-switcher").get_by_test_id("user").filter(has_text="Victor").click()
    await page.get_by_test_id("open-link").fill(link or "")
    await page.get_by_test_id("open-link-go").click()
    if await page.get_by_test_id("start").is_visible():
        await page.get_by_test_id("start").click()
    await shows(page, "Chef Ada")
    await say(page, "Hello!")
    await shows(page, "You wrote: “Hello!”", timeout=60_000)
    await page.screenshot(path=shots / "8-visitor.png")
