"""The web page in a real browser: what a visitor does with mouse, keyboard and a phone."""

import base64
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from polling import poll
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.slow

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARGUMENTS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --disable-dev-shm-usage"
)
TIMES = " \N{MULTIPLICATION SIGN} "  # before the number of regions of one class
DESKTOP, PHONE = (1280, 900), (390, 844)


class Page:
    """The page in one browser window."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        driver.get(url)

    def __getitem__(self, name: str) -> WebElement:
        """The element with this id."""
        return self.driver.find_element(By.ID, name)

    @property
    def state(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").get_attribute("data-state"))

    def open(self, file: Path) -> str:
        """Choose a file, and return the state that it leads to."""
        self["file"].send_keys(str(file))
        return poll(lambda: self.state, until=lambda state: state in ("done", "failed"))

    def rows(self) -> list[str]:
        """The lines of the legend."""
        rows = self.driver.find_elements(By.CSS_SELECTOR, "#legend .name")
        return [row.text for row in rows]

    def requests(self) -> int:
        """How often the server was asked for a segmentation."""
        script = "return performance.getEntriesByType('resource').map(each => each.name)"
        return sum("/v1/segment" in name for name in self.driver.execute_script(script))

    def slide(self, name: str, value: float) -> None:
        """Move a slider there, as dragging does."""
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        self.driver.execute_script(script, self[name], value)

    def press(self, *keys: str) -> WebElement:
        """Press keys; returns what has the focus then."""
        ActionChains(self.driver).send_keys(*keys).perform()
        return self.driver.switch_to.active_element

    def problems(self) -> list[str]:
        """What the console says, but for answers of the server that are faults."""
        entries = [entry["message"] for entry in self.driver.get_log("browser")]
        return [entry for entry in entries if "the server responded with" not in entry]


@pytest.fixture
def page(gateway_url: str, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens the page in a window of a size; Chromium saves downloads in `tmp_path`/saved."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    drivers = []

    def opened(size: tuple[int, int] = DESKTOP) -> Page:
        options = webdriver.ChromeOptions()
        for argument in [*ARGUMENTS.split(), f"--user-data-dir={tmp_path / 'profile'}"]:
            options.add_argument(argument)
        options.binary_location = CHROMIUM
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        drivers.append(driver)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
        _command(driver, "Emulation.setDeviceMetricsOverride", mobile=size == PHONE, **metrics)
        _command(driver, "Emulation.setTouchEmulationEnabled", enabled=size == PHONE)
        saved = {"behavior": "allow", "downloadPath": str(tmp_path / "saved")}
        _command(driver, "Browser.setDownloadBehavior", **saved)
        return Page(driver, gateway_url)

    yield opened
    for driver in drivers:
        driver.quit()


def _command(driver: webdriver.Chrome, name: str, **parameters: Any) -> None:
    driver.execute_cdp_cmd(name, parameters)


@pytest.fixture
def street(root: Path) -> Path:
    return root / "docs" / "street.jpg"


def test_an_image_is_segmented_and_its_regions_are_named(
    page: Callable[..., Page], street: Path, gateway_url: str
) -> None:
    shown = page()
    assert shown.state == "empty"
    assert shown.open(street) == "done"
    answer = httpx.post(f"{gateway_url}/v1/segment", content=street.read_bytes()).json()
    labels = {found["label"] for found in answer["detections"]}
    assert {row.split(TIMES)[0] for row in shown.rows()} == labels
    sky = next(found for found in answer["detections"] if found["label"] == "sky")
    x, y = _place(sky["mask"])
    box = shown["tint"].rect
    offset = ((x - 0.5) * box["width"], (y - 0.5) * box["height"])
    ActionChains(shown.driver).move_to_element_with_offset(shown["tint"], *offset).perform()
    assert shown["tip"].text.startswith("sky")
    assert "Round trip" in shown["times"].text
    assert not shown.problems()


def _place(mask: str) -> tuple[float, float]:
    """Where a region surely is, as parts of width and height: the middle of a 9 x 9 square."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(mask))))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (9, 9)).all((2, 3))
    y, x = np.argwhere(windows)[0] + 4.5
    return x / pixels.shape[1], y / pixels.shape[0]


def test_sliders_ask_nothing_of_the_server(page: Callable[..., Page], street: Path) -> None:
    shown = page()
    shown.open(street)
    rows, asked = len(shown.rows()), shown.requests()
    shown.slide("threshold", 0.9)
    assert 0 < len(shown.rows()) < rows
    shown.slide("threshold", 1)
    assert not shown.rows()
    assert shown["nothing"].is_displayed()
    shown.slide("threshold", 0)
    assert len(shown.rows()) > rows
    shown.slide("opacity", 0.25)
    assert shown["tint"].value_of_css_property("opacity") == "0.25"
    assert shown.requests() == asked == 1


def test_downloads_hold_what_is_shown(
    page: Callable[..., Page], street: Path, tmp_path: Path
) -> None:
    shown = page()
    shown.open(street)
    shown.slide("threshold", 0.94)
    shown["save-png"].click()
    shown["save-json"].click()
    png, told = (tmp_path / "saved" / f"street-segmentation.{kind}" for kind in ("png", "json"))
    assert poll(lambda: png.exists() and told.exists())
    difference = np.abs(_pixels(png) - _pixels(street))  # (480, 640, 3)
    assert 10 < difference.mean() < 100
    detections = json.loads(told.read_text())["detections"]
    assert {found["label"] for found in detections} == set(shown.rows())


def _pixels(file: Path) -> Any:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_keyboard_is_enough(page: Callable[..., Page], street: Path) -> None:
    shown = page()
    shown.driver.execute_script(
        "document.getElementById('file').click = () => document.title = 'asked for a file'"
    )
    while (focus := shown.press(Keys.TAB)).get_attribute("id") != "drop":
        assert focus.tag_name in ("a", "button")
    shown.press(Keys.ENTER)
    assert shown.driver.title == "asked for a file"
    shown.open(street)
    while (focus := shown.press(Keys.TAB)).get_attribute("id") != "threshold":
        assert focus.tag_name in ("a", "button", "body")
    assert shown.press(Keys.ARROW_RIGHT).get_attribute("value") == "0.51"
    assert shown.press(Keys.TAB).get_attribute("id") == "opacity"
    row = shown.press(Keys.TAB)
    assert shown["tip"].text.startswith(row.text.split(",")[0].split("\n")[0])
    assert shown.press(Keys.ARROW_DOWN) != row


def test_a_fault_is_the_servers_sentence(page: Callable[..., Page], tmp_path: Path) -> None:
    shown = page()
    (tmp_path / "image.jpg").write_bytes(b"no image at all")
    assert shown.open(tmp_path / "image.jpg") == "failed"
    assert "whole JPEG" in shown["sentence"].text
    assert shown["drop"].is_displayed()
    assert not shown["again"].is_displayed(), "the same file would fail again"


@pytest.mark.parametrize(
    "event",
    [
        "ClipboardEvent('paste', { clipboardData: data })",
        "DragEvent('drop', { dataTransfer: data })",
    ],
)
def test_a_pasted_or_dropped_image_is_taken(
    page: Callable[..., Page], street: Path, event: str
) -> None:
    shown = page()
    shown.driver.execute_script(
        f"""const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "photo.jpg", {{ type: "image/jpeg" }}));
        dispatchEvent(new {event});""",
        base64.b64encode(street.read_bytes()).decode(),
    )
    assert poll(lambda: shown.state, until=lambda state: state == "done") == "done"


def test_a_phone_has_all_of_it_in_its_width(
    page: Callable[..., Page], street: Path, tmp_path: Path
) -> None:
    shown = page(PHONE)
    assert shown["photograph"].is_displayed()
    assert shown["camera"].get_attribute("capture") == "environment"
    assert shown.open(street) == "done"
    width = shown.driver.execute_script("return document.documentElement.scrollWidth")
    assert width == PHONE[0]
    assert shown["panel"].rect["y"] > shown["view"].rect["y"] + shown["view"].rect["height"]
    assert min(button.rect["height"] for button in _buttons(shown)) >= 40
    image = Image.open(io.BytesIO(shown.driver.get_screenshot_as_png()))
    assert image.size == PHONE


def _buttons(shown: Page) -> list[WebElement]:
    buttons = shown.driver.find_elements(By.TAG_NAME, "button")
    return [button for button in buttons if button.is_displayed()]


def test_the_api_is_shown_for_reading(page: Callable[..., Page]) -> None:
    shown = page()
    shown.driver.get(shown.driver.current_url + "docs")
    code = poll(lambda: shown.driver.find_elements(By.CSS_SELECTOR, "summary code"))
    assert "/v1/segment" in [each.text for each in code]
    assert "/v2/models/{model}/infer" in [each.text for each in code]
    assert not shown.problems()
