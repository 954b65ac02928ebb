"""The page of a plan in a real browser, on a screen and on a telephone, light and dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plans.render import RENDERERS
from tests.needs import chromium
from tests.stories.test_stories import plan_of

pytestmark = pytest.mark.browser

STORIES = Path(__file__).parent
SHOWN = ("base_changed", "host_removed", "new_version_with_gates", "other_gateways", "tier_changed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 (may not be installed)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1000), ("dark", 390)])
@pytest.mark.parametrize("story", SHOWN)
def test_the_page_fits_and_breaks_no_rule(
    browser: Any, story: str, scheme: str, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 (may not be installed)

    size = {"width": width, "height": 844}
    page = browser.new_page(color_scheme=scheme, viewport=size, bypass_csp=True)
    page.set_content(RENDERERS["html"](plan_of(STORIES / story)))
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')]"
        ".filter(found => found.getBoundingClientRect().right > innerWidth + 1)"
        ".map(found => found.outerHTML.slice(0, 80))"
    )
    rules = [
        (rule["id"], rule["nodes"][0]["html"]) for rule in Axe().run(page).response["violations"]
    ]
    page.close()
    assert (wide, rules) == ([], [])


def test_the_stages_of_a_rollout_stand_in_a_row_and_a_gpu_has_boxes(browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_content(RENDERERS["html"](plan_of(STORIES / "base_changed")))
    stages = page.locator(".axis li")
    assert stages.all_inner_texts() == ["10 %\nnow", "50 %\nafter 1 d", "100 %\nafter 2 d"]
    assert len({stage.bounding_box()["y"] for stage in stages.all()}) == 1
    assert page.locator(".gpu").all_inner_texts() == ["before\nno server", "after\n1 of 4 slots"]
    page.close()
