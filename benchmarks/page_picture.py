"""The page of `stylesdk serve` as the README shows it: the rendered demo scene for a camera, half before, half after.

    python benchmarks/page_picture.py docs/pictures/page.jpg

It needs Chromium and playwright, as the tests of the page do: STYLESDK_CHROMIUM, or `playwright install chromium`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import cv2
import typer
from playwright.sync_api import Page, sync_playwright
from reports import run_script
from serve import TOKEN, running_server

from stylesdk.live.scene import render_frame

SIZE = (540, 960)
WINDOW = {"width": 1200, "height": 720}
DIVIDER = 36  # percent of the width, an even number
PATIENCE = 60_000  # ms


def write_camera(path: Path) -> Path:
    """The scene as Chromium's fake camera plays it: one moment, again and again."""
    scene = cv2.imencode(".jpg", render_frame(40, 100, SIZE), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    path.write_bytes(scene.tobytes() * 3)
    return path


def photograph(page: Page, address: str, style: str, out: Path) -> None:
    """Open the page, start the camera, wait for the style and its figures, move the divider."""
    page.goto(address)
    page.click("#start")
    page.locator("body[data-state=live]").wait_for(timeout=PATIENCE)
    page.locator(f"input[value={style}]").check(force=True)
    divider = page.locator("#divider")
    divider.press("Home")
    for _ in range(DIVIDER // 10):
        divider.press("PageUp")
    for _ in range(DIVIDER % 10 // 2):
        divider.press("ArrowRight")
    divider.blur()
    page.locator("#figures:not(.off)").wait_for(timeout=PATIENCE)
    page.wait_for_timeout(8000)  # figures of a stream under way
    page.locator("#source option").first.evaluate("(camera) => (camera.textContent = 'Camera')")  # not a path
    page.screenshot(path=out, type="jpeg", quality=75)


def main(
    out: Annotated[Path, typer.Argument(help="JPEG file")],
    style: Annotated[str, typer.Option("--style", "-s")] = "wave",
) -> None:
    """Take the picture."""
    browser = os.environ.get("STYLESDK_CHROMIUM") or shutil.which("chromium")  # None: playwright's own
    with TemporaryDirectory() as folder, running_server(["-s", "six"]) as port, sync_playwright() as playwright:
        camera = write_camera(Path(folder, "scene.mjpeg"))
        fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        words = ["--no-sandbox", *fake, f"--use-file-for-fake-video-capture={camera}"]
        chromium = playwright.chromium.launch(executable_path=browser, args=words)
        page = chromium.new_page(viewport=WINDOW, color_scheme="light")
        photograph(page, f"http://localhost:{port}/?transport=websocket&token={TOKEN}", style, out)
        chromium.close()
    print(f"{out}, {out.stat().st_size / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
