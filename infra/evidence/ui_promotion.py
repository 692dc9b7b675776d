"""Promote a version as a person does: move an alias in MLflow's web UI, in a real browser."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from playwright.sync_api import ViewportSize, expect, sync_playwright
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from infra.evidence.registry_copies import alias_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # containers run as root, which Chromium's sandbox refuses
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
)
VIEW = ViewportSize(width=1800, height=1000)
"""Wide enough that MLflow cuts no version number off."""

TIMEOUT_S = 60.0
"""For each thing that the page is waited for; a busy machine takes its time."""


class BrowserMissingError(RuntimeError):
    """No Chromium is installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UiPromotion:
    """An alias that was moved."""

    opened_s: float
    """Monotonic time at which the page was asked for."""

    saved_s: float
    """Monotonic time just before the click on "Save aliases"."""

    confirmed_s: float
    """Monotonic time at which MLflow's API named the version."""

    before: bytes
    """PNG of the page with the alias where it was."""

    after: bytes
    """PNG of the page with the alias moved."""


def browser_path() -> str | None:
    """Return the installed Chromium; None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def promote_in_ui(
    mlflow_uri: str, model: str, version: str, alias: str = "champion"
) -> UiPromotion:
    """Give an alias to a version in MLflow's UI; another version that has it loses it.

    Args:
        mlflow_uri: Address of the MLflow server, without a final slash.
        model: The registered model's name.
        version: Number of the version.
        alias: Which alias.

    Raises:
        ValueError: If the version has the alias already.
        BrowserMissingError: If no Chromium is installed.
        playwright.sync_api.Error: If the page does not show what it should in time.
        AssertionError: If the page does not show the alias as moved.
        tenacity.RetryError: If the UI shows the alias as moved and the API does not.
    """
    if alias_version(mlflow_uri, model, alias) == version:
        raise ValueError(f"version {version} has the alias {alias} already; name another version")
    with browser_page() as page:
        opened_s = time.monotonic()
        page.goto(f"{mlflow_uri}/#/models/{quote(model, safe='')}")
        aliases = _aliases_cell(page, version)
        before = page.screenshot()
        saved_s = _add_alias(page, aliases, version, alias)
        _await_alias(mlflow_uri, model, version, alias)
        confirmed_s = time.monotonic()
        page.reload()  # MLflow 3.17 goes on showing the table as it was before the save
        aliases = _aliases_cell(page, version)
        expect(_tag(aliases, alias)).to_be_visible()
        expect(_tag(page.get_by_test_id("model-version-table"), alias)).to_have_count(1)
        return UiPromotion(
            opened_s=opened_s,
            saved_s=saved_s,
            confirmed_s=confirmed_s,
            before=before,
            after=page.screenshot(),
        )


@contextmanager
def browser_page() -> Iterator[Page]:
    """Yield a page of a headless browser with a new, empty profile.

    Raises:
        BrowserMissingError: If no Chromium is installed.
    """
    path = browser_path()
    if path is None:
        raise BrowserMissingError(
            "no Chromium was found; run `apt-get install -y --no-install-recommends chromium`"
        )
    expect.set_options(timeout=TIMEOUT_S * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        try:
            page = browser.new_page(viewport=VIEW)
            page.set_default_timeout(TIMEOUT_S * 1000)
            yield page
        finally:
            browser.close()


def _aliases_cell(page: Page, version: str) -> Locator:
    """Return the cell of the version table that holds a version's aliases.

    The table shows 25 versions at a time, the newest first.
    """
    table = page.get_by_test_id("model-version-table")
    link = page.get_by_role("link", name=f"Version {version}", exact=True)
    further = page.get_by_role("button", name="Next", exact=True)
    row = table.get_by_role("row").filter(has=link)
    links = table.get_by_role("link", name="Version ")
    expect(links.first).to_be_visible()
    while not row.count() and further.is_enabled():
        shown = links.first.inner_text()
        further.click()
        expect(links.first).not_to_have_text(shown)
    row.wait_for()
    # The tags' cell has a button "Add" too: the column tells them apart.
    column = table.get_by_role("columnheader").all_inner_texts().index("Aliases")
    return row.get_by_role("cell").nth(column)


def _add_alias(page: Page, aliases: Locator, version: str, alias: str) -> float:
    """Add the alias in the editor and save; return the monotonic time of the click on "Save"."""
    aliases.get_by_role("button").last.click()  # "Add" where there is no alias, else a pencil
    editor = page.get_by_role("dialog", name=f"Add/Edit alias for model version {version}")
    field = editor.get_by_role("combobox")
    field.press_sequentially(alias)
    field.press("Enter")
    expect(_tag(editor, alias)).to_be_visible()
    save = editor.get_by_role("button", name="Save aliases")
    expect(save).to_be_enabled()
    saved_s = time.monotonic()
    save.click()
    editor.wait_for(state="hidden")
    return saved_s


def _tag(place: Locator, alias: str) -> Locator:
    """Return the label that shows an alias."""
    return place.get_by_role("status").filter(has_text=f"@\N{NO-BREAK SPACE}{alias}")


def _await_alias(mlflow_uri: str, model: str, version: str, alias: str) -> None:
    @retry(
        stop=stop_after_delay(TIMEOUT_S),
        wait=wait_fixed(0.1),
        retry=retry_if_result(lambda named: named != version),
    )
    def ask() -> str | None:
        return alias_version(mlflow_uri, model, alias)

    ask()
