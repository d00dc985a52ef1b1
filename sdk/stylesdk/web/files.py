"""The page's files, read once, and what it is told about the server."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from stylesdk import __version__
from stylesdk.errors import SourceError
from stylesdk.web.thumbnails import title_of

PAGE = Path(__file__).parent / "page"
# By our own list: the system's may say anything, and browsers run no script of a wrong type.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class File:
    """What is served under one name."""

    content: bytes
    kind: str

    def answer(self, request: Request) -> Response:
        """200 with an ETag, or 304 where the browser has it."""
        tag = f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        return Response(self.content, 200, headers, media_type=self.kind)


def page_files(folder: Path) -> dict[str, File]:
    """Every file of ``folder`` of a type that a page has, by its path there; ``index.html`` also as ``""``.

    Raises:
        SourceError: no index.html there.
    """
    found = {
        path.relative_to(folder).as_posix(): File(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES and path.is_file()
    }
    if "index.html" not in found:
        raise SourceError(f"no index.html in {folder}", expected="the page", do="install stylesdk again")
    return found | {"": found["index.html"]}


def picture_files(pictures: dict[str, bytes]) -> dict[str, File]:
    """Thumbnails, JPEG by style, under the names that ``config_file`` gives them."""
    return {f"thumbnails/{name}.jpg": File(jpeg, "image/jpeg") for name, jpeg in pictures.items()}


def config_file(
    styles: tuple[str, ...], look: dict[str, Any], backend: str, transports: list[str], limits: dict[str, int]
) -> File:
    """``config.js``, which sets ``window.STYLESDK``."""
    gallery = [{"name": name, "title": title_of(name), "thumbnail": f"thumbnails/{quote(name)}.jpg"} for name in styles]
    config = {
        "mode": "server",
        "version": __version__,
        "backend": backend,
        "styles": gallery,
        "default": look,
        "transports": transports,
        "limits": limits,
    }
    return File(f"window.STYLESDK = {json.dumps(config)};\n".encode(), _TYPES[".js"])
