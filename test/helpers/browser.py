"""Pages in a real browser: headless Chromium, driven by Selenium; nothing is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--force-device-scale-factor=1"),
)
# Texts that end outside the page, or that are too small; what scrolls by itself may be wider.
UNREADABLE = """
const smallest = arguments[0], found = [];
const scrolls = (node) => node && node.nodeType === 1 && (
  ["auto", "scroll"].includes(getComputedStyle(node).overflowX) || scrolls(node.parentNode));
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
  if (!text || ["SCRIPT", "STYLE", "OPTION", "title"].includes(parent.tagName)) continue;
  const range = document.createRange();
  range.selectNodeContents(walker.currentNode);
  const box = range.getBoundingClientRect();
  if (!box.width || getComputedStyle(parent).visibility === "hidden") continue;
  let size = parseFloat(getComputedStyle(parent).fontSize);
  if (parent.getCTM) {
    const { a, b } = parent.getScreenCTM();
    size *= Math.hypot(a, b);
  }
  if (size < smallest) found.push(`${size.toFixed(1)} px: ${text.slice(0, 40)}`);
  if (!scrolls(parent) && (box.right > innerWidth + 1 || box.left < -1))
    found.push(`outside, ${box.left.toFixed(0)} to ${box.right.toFixed(0)}: ${text.slice(0, 40)}`);
}
return found;
"""


class Browser:
    """A running Chromium with one page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1400, fragment: str = "") -> None:
        """Load a page from its file at a width in pixels.

        Raises:
            AssertionError: an error in a script, or a picture that does not load.
        """
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        self.driver.get("about:blank")
        self.errors()
        self.driver.get(page.resolve().as_uri() + fragment)
        assert self.errors() == []
        self.wait_for("return [...document.images].every((image) => image.complete)")
        assert self.js(
            "return [...document.images].filter((i) => !i.naturalWidth).map((i) => i.src)"
        ) == []  # fmt: skip

    def errors(self) -> list[str]:
        """Return what the console has said since the last call, but for remarks."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, condition: str) -> None:
        """Wait until a script returns true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 30).until(lambda _: self.js(condition))

    def click(self, selector: str, index: int = 0) -> None:
        """Click an element where a user would."""
        from selenium.webdriver.common.action_chains import ActionChains

        element = self.all(selector)[index]
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.driver).click(element).perform()

    def all(self, selector: str) -> list[Any]:
        """Return the elements of a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def visible(self, selector: str) -> list[Any]:
        """Return those that are displayed."""
        script = "return [...document.querySelectorAll(arguments[0])].filter("
        return self.js(script + "(element) => element.getClientRects().length)", selector)

    def unreadable(self, smallest_px: float) -> list[str]:
        """Return the texts that are too small or lie outside the page, and sideways scrolling."""
        found = self.js(UNREADABLE, smallest_px)
        wide = self.js("return document.scrollingElement.scrollWidth - innerWidth")
        return found + ([f"the page is {wide} px too wide"] if wide > 0 else [])

    def foreign_resources(self) -> list[str]:
        """Return what the page has loaded from elsewhere than files and itself."""
        names = self.js("return performance.getEntriesByType('resource').map((e) => e.name)")
        return [name for name in names if not name.startswith(("file:", "data:", "blob:"))]


@contextmanager
def running_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile; skips the test where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING"})
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=driver)
    running = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(running)
    finally:
        running.quit()
