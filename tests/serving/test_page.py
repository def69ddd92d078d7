"""The page in a real browser, by keyboard, behind it a generator in name only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from mimix_ray.run import Run
from tests.serving.servers import FakeGenerate, endpoint

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium found (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    page = browser.new_page()
    page.set_default_timeout(20_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert not errors


@pytest.fixture
def run(run_factory: Callable[..., Run]) -> Run:
    return run_factory()


def test_two_who_never_met_are_put_on_stage_by_keyboard(page: sync_api.Page, run: Run):
    generate = FakeGenerate(run)
    with endpoint(run, generate) as address:
        page.goto(address)
        second = page.get_by_label("character 2", exact=True)
        second.focus()
        page.keyboard.type("Nan")  # a select follows what is typed
        page.keyboard.press("Tab")
        page.keyboard.type("waves <b>her</b> stick")
        page.get_by_label("realistic").focus()
        page.keyboard.press("Space")
        built = page.locator("#built").inner_text()
        page.get_by_role("button", name="Make it").focus()
        page.keyboard.press("Enter")
        page.locator("#now video").wait_for(state="attached")
        gallery = page.locator("#gallery li")
        gallery.first.wait_for()
        assert "waves <b>her</b> stick" in gallery.first.inner_text()
    [job] = generate.begun
    assert job.prompt == built
    assert job.prompt.endswith("[Character: Nan Fern], waves <b>her</b> stick. [scene-style:realistic]")


def test_failures_and_refusals_are_shown(page: sync_api.Page, run: Run):
    with endpoint(run, FakeGenerate(run)) as address:
        page.goto(address)
        page.get_by_label("what character 1 does").fill("")
        page.get_by_role("button", name="Make it").click()
        page.get_by_role("alert").filter(has_text="'Pip' does nothing").wait_for()
        page.get_by_label("what character 1 does").fill("will fail")
        page.get_by_role("button", name="Make it").click()
        page.locator("#now").get_by_text("the fake was told to fail").wait_for()


def test_a_running_job_can_be_stopped(page: sync_api.Page, run: Run):
    generate = FakeGenerate(run)
    with endpoint(run, generate, lease_s=0.3) as address:
        page.goto(address)
        page.get_by_label("what character 1 does").fill("waits")
        page.get_by_role("button", name="Make it").click()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped and removed.").wait_for()
        page.get_by_text("No videos yet.").wait_for()


def test_a_key_is_asked_for_where_one_is_needed(page: sync_api.Page, run: Run):
    with endpoint(run, FakeGenerate(run), keys=(b"sesame",)) as address:
        page.goto(address)
        page.get_by_label("API key").fill("sesame")
        page.keyboard.press("Tab")
        page.get_by_label("what character 1 does").wait_for()
        page.get_by_role("button", name="Make it").click()
        page.locator("#now video").wait_for(state="attached")
        assert page.locator("#now video").get_attribute("src").startswith("blob:")
