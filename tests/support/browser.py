"""A real Chromium without a window, driven by its own driver: no download, no network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
PATIENCE_SECONDS = 60


class Browser:
    """A page at a time, at a width, and what its console said."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, url: str, *, width: int = 1280) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self._driver.get_log("browser")
        self._driver.get(url)

    def prefer(self, scheme: str, *, media: str = "") -> None:
        """Prefer a colour scheme, `light` or `dark`, on a medium, the screen or `print`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def ask(self, script: str) -> object:
        return self._driver.execute_script(f"return {script}")

    def wait_for(self, script: str) -> None:
        WebDriverWait(self._driver, PATIENCE_SECONDS).until(lambda driver: self.ask(script))

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self._driver.get_log("browser") if entry["level"] == "SEVERE"]

    def tab(self) -> None:
        self._driver.switch_to.active_element.send_keys(Keys.TAB)

    def press(self, key: str) -> None:
        self._driver.switch_to.active_element.send_keys(key)

    def text(self) -> str:
        return self._driver.find_element(By.TAG_NAME, "body").text


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; the test is skipped where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium with chromedriver here; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with TemporaryDirectory(prefix="mixscout-chromium-", ignore_cleanup_errors=True) as folder:
        for flag in (*FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        started = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield Browser(started)
        finally:
            started.quit()
