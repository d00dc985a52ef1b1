"""The page that needs no server, as tests write it, and what it makes of a frame.

onnxruntime-web is not part of stylesdk: STYLESDK_ORT_WEB names its npm package, a folder or .tgz.
"""

from __future__ import annotations

import base64
import os
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Page

from installed import unavailable
from stylesdk.frames import Frame
from stylesdk.web.static import write_static_page

PATIENCE = 120.0  # seconds: a busy machine loads 27 MB of WASM for a while
CLOSE = 2  # of 255: what another order of the same sums may change
BYTES = """
  const bytes = (text) => Uint8ClampedArray.from(atob(text), (letter) => letter.charCodeAt(0));
  const text = (bytes) => btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
"""
RUN = f"""async ([pixels, width, height, look]) => {{
  {BYTES}
  window.tried ||= new stylesdk.LocalEngine(window.STYLESDK);
  tried.setLook(look);
  return text((await tried.run(new ImageData(bytes(pixels), width, height))).data);
}}"""


@lru_cache
def static_site(model: str) -> Path:
    """The folder of the page with a model; skips without onnxruntime-web, or fails where browsers are required."""
    package = os.environ.get("STYLESDK_ORT_WEB")
    if not package:
        reason = "needs onnxruntime-web: STYLESDK_ORT_WEB=its npm package, from .ci/browser_tools or `npm pack`"
        unavailable(reason)
    return write_static_page(Path(_folder().name) / Path(model).stem, model, onnxruntime_web=package).parent


@lru_cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="stylesdk-static-")  # until the interpreter ends


def as_text(image: np.ndarray) -> str:
    return base64.b64encode(image.tobytes()).decode()


def from_text(text: str, like: np.ndarray) -> Frame:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(like.shape)


def styled_by(page: Page, frame: Frame, **look: Any) -> Frame:
    """What the browser makes of ``frame``."""
    rgba = cv2.cvtColor(frame, cv2.COLOR_BGR2RGBA)
    found = from_text(page.evaluate(RUN, [as_text(rgba), *frame.shape[1::-1], look]), rgba)
    assert found[..., 3].min() == 255
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_RGBA2BGR), dtype=np.uint8)


def furthest(a: Frame, b: Frame) -> int:
    assert a.shape == b.shape
    return int(cv2.absdiff(a, b).max())
