"""Small pictures of every style for the gallery, and their titles."""

from __future__ import annotations

import cv2

from stylesdk.live.scene import FRAMES, render_frame
from stylesdk.stylizer import Stylizer

_STYLED = (216, 384)  # height, width; twice as fine as shown, as strokes would be too coarse otherwise
_SHOWN = (192, 108)  # width, height


def thumbnails_from(stylizer: Stylizer) -> dict[str, bytes]:
    """Each style of ``stylizer`` on the demo scene, by name: JPEG, 192x108. None for a plan without its sidecar."""
    photo = render_frame(40, FRAMES, _STYLED)
    found = {}
    for name in stylizer.styles:
        small = cv2.resize(stylizer.run(photo, style=name), _SHOWN, interpolation=cv2.INTER_AREA)
        found[name] = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return found


def title_of(style: str) -> str:
    """A style's name for people: ``composition_vii`` -> ``Composition VII``."""
    return " ".join(word.upper() if set(word) <= set("ivx") else word.capitalize() for word in style.split("_"))
