"""The page by keyboard, for screen readers, and in every width and scheme."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Server, Tab

pytestmark = pytest.mark.browser

OpenTab = Callable[..., Tab]
FOCUSED = """() => {
    const at = document.activeElement, ring = at.matches(".tile input") ? at.nextElementSibling : at;
    const style = getComputedStyle(ring), knob = getComputedStyle(ring, "::after");
    return { id: at.id || at.value || at.tagName, width: [style.outlineWidth, knob.outlineWidth],
             style: [style.outlineStyle, knob.outlineStyle] };
}"""
ORDER = ["source", "open", "divider", "start", "snapshot", "record", "fullscreen", "starry_night", "second"]
ORDER += ["strength", "smoothing", "keep-color", "SUMMARY"]
# Text and what is behind it: colours as the browser shows them.
COLORS = """(selector) => {
    const at = document.querySelector(selector);
    let behind = at;
    while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    return [getComputedStyle(at).color, getComputedStyle(behind).backgroundColor];
}"""

# How far the ring of the focused tile is inside what cuts it off: the least of top and left.
INSIDE = """() => {
    const picture = document.activeElement.nextElementSibling, at = picture.getBoundingClientRect();
    let around = picture.parentElement;
    while (getComputedStyle(around).overflowX === "visible") around = around.parentElement;
    const { outlineWidth, outlineOffset } = getComputedStyle(picture), cut = around.getBoundingClientRect();
    const ring = parseFloat(outlineWidth) + parseFloat(outlineOffset);
    return [ring, Math.min(at.left - cut.left, at.top - cut.top) - ring];
}"""


@pytest.fixture
def tab(open_tab: OpenTab, server: Server) -> Tab:
    return open_tab(server.url + "?transport=websocket")


def test_keyboard_alone(tab: Tab) -> None:
    page = tab.page
    page.keyboard.press("Space")
    tab.live()
    seen = []
    for _ in ORDER:
        page.keyboard.press("Tab")
        focused: dict[str, Any] = page.evaluate(FOCUSED)
        rings = [w for w, s in zip(focused["width"], focused["style"], strict=True) if s != "none" and w != "0px"]
        assert rings, f"no focus to be seen on {focused['id']}"
        seen.append(focused["id"])
    assert seen == ORDER
    page.focus("input[value=starry_night]")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[value=the_scream]")
    page.keyboard.press("4")
    assert page.is_checked("input[value=wave]")
    page.focus("#strength")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#strength") == "0.95"
    page.keyboard.press("c")
    assert page.is_checked("#keep-color")
    page.keyboard.press("m")
    assert page.input_value("#smoothing") == "0.5"
    with page.expect_download() as saved:
        page.keyboard.press("s")
    assert saved.value.suggested_filename.startswith("wave-")
    page.keyboard.press("r")
    assert page.get_attribute("#record", "aria-pressed") == "true"
    with page.expect_download():
        page.keyboard.press("r")
    page.keyboard.press("f")
    tab.until(lambda: page.evaluate("document.fullscreenElement?.id") == "stage")
    page.keyboard.press("f")
    tab.until(lambda: not page.evaluate("Boolean(document.fullscreenElement)"))
    page.focus("#strength")  # a slider has no use for the space key: it starts and stops
    page.keyboard.press("Space")
    assert tab.state == "idle"


def test_space_on_a_button_is_the_buttons(tab: Tab) -> None:
    tab.page.focus("#keep-color")
    tab.page.keyboard.press("Space")
    assert tab.page.is_checked("#keep-color")
    assert tab.state == "idle"
    tab.page.focus("#start")
    tab.page.keyboard.press("Space")
    tab.live()  # once, not on and off again


def test_single_keys_can_be_switched_off(tab: Tab) -> None:
    """As WCAG 2.2 asks for (2.1.4), and it is remembered."""
    tab.page.click("summary")
    tab.page.uncheck("#keys")
    tab.page.evaluate("document.activeElement.blur()")  # else the space key is the switch's
    for key in ("4", "c", "Space"):
        tab.page.press("body", key)
    tab.page.reload()
    tab.page.press("body", "4")
    assert tab.page.is_checked("input[value=starry_night]")
    assert not tab.page.is_checked("#keep-color")
    assert tab.state == "idle"
    tab.page.click("summary")
    tab.page.check("#keys")
    tab.page.press("body", "4")
    assert tab.page.is_checked("input[value=wave]")
    tab.page.press("body", "C")  # Caps Lock
    assert tab.page.is_checked("#keep-color")
    tab.page.evaluate("document.getElementById('fullscreen').hidden = true")  # as on an iPhone
    tab.page.press("body", "f")
    assert not tab.page.evaluate("Boolean(document.fullscreenElement)")


def test_names_and_roles(tab: Tab) -> None:
    tab.page.select_option("#second", "wave")
    tab.start()
    tree = tab.page.locator("body").aria_snapshot()
    for line in (
        'heading "stylesdk" [level=1]',
        'combobox "Camera or file"',
        'region "Picture"',
        'img "After: Starry Night"',
        'slider "Before and after"',
        "status",
        'button "Stop"',
        'button "Snapshot"',
        'button "Record"',
        'button "Full screen"',
        'group "Style"',
        'radio "Starry Night" [checked]',
        'radio "Udnie"',
        'combobox "Blend with"',
        'slider "Blend"',
        'slider "Strength"',
        'slider "Smoothing"',
        'switch "Keep colour"',
    ):
        assert line in tree, tree
    unnamed = "[...document.querySelectorAll('button, input, select')].filter((e) => !e.labels?.length && !e.ariaLabel"
    assert tab.page.evaluate(f"{unnamed} && !e.innerText.trim()).length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "width", "height"), [("phone", 390, 844), ("narrow", 360, 640), ("desktop", 1440, 900)]
)
def test_fits_and_can_be_read(
    open_tab: OpenTab, server: Server, name: str, width: int, height: int, scheme: str
) -> None:
    tab = open_tab(
        server.url + "?transport=websocket",
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        has_touch=name != "desktop",
    )
    shoot(tab, f"{name}_{scheme}_idle")
    tab.start()
    tab.page.focus("#divider")
    for _ in range(4):
        tab.page.keyboard.press("PageUp")
    tab.until(lambda: "ms" in tab.page.inner_text("#p50"))
    shoot(tab, f"{name}_{scheme}_live")
    tab.page.focus("input[value=starry_night]")
    tab.page.keyboard.press("1")
    ring, inside = tab.page.evaluate(INSIDE)
    assert ring > 0 and inside >= 0
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    for control in ("#frame", "#start", "#snapshot", "#record", "#fullscreen", "#open", "#figures"):
        box = tab.page.locator(control).bounding_box()
        assert box is not None
        assert box["x"] >= 0 and box["y"] >= 0
        assert box["x"] + box["width"] <= width and box["y"] + box["height"] <= height, control
    for text in ("h1", "#start", "#open", "#fps", "#figures dt", ".tile span", "legend", "#strength-value", "summary"):
        ink, paper = tab.page.evaluate(COLORS, text)
        assert contrast(ink, paper) >= 4.5, (text, ink, paper)  # WCAG 2.2 AA


def shoot(tab: Tab, name: str) -> None:
    """A screenshot for people, where they asked for one by STYLESDK_SCREENSHOTS."""
    if folder := os.environ.get("STYLESDK_SCREENSHOTS"):
        tab.page.screenshot(path=Path(folder) / f"{name}.png")


def contrast(a: str, b: str) -> float:
    """WCAG's contrast of two colours, rgb(r, g, b)."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
