"""The page that needs no server: a folder with the model and its runtime, for any web host, or to open from disk.

Browsers let a page from disk (file://) load scripts, and nothing else. So the model and onnxruntime-web are scripts
too: each holds one file, gzip in base64. Unpacked they are the same bytes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from stylesdk import __version__
from stylesdk.errors import ModelFileError, SinkError, StyleError
from stylesdk.live.styling import Look
from stylesdk.manifest import read_model_file
from stylesdk.mix import split_style
from stylesdk.styles import resolve
from stylesdk.stylizer import Stylizer
from stylesdk.web.messages import look_values
from stylesdk.web.onnxruntime_web import FILES, LICENCE, VERSION, onnxruntime_web_files
from stylesdk.web.thumbnails import thumbnails_from, title_of

PAGE = Path(__file__).parent / "page"
_LIST = "files.json"
_ENGINE = re.compile(rb"<!-- engine\b.*?<!-- /engine -->", re.DOTALL)
_SCRIPTS = ("pixels.js", "local_worker.js", "local.js")
_SERVERS = ("remote.js", "socket.js", "peer.js")  # what only a page with a server needs
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what systems leave in a folder that somebody looked at
_MAX_SIDE = 640  # pixels: what WASM styles several times a second


def write_static_page(
    out: str | os.PathLike[str],
    model: str = "six",
    *,
    look: Look | None = None,
    onnxruntime_web: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a folder whose index.html styles the camera in the browser, with WebGPU or WASM.

    The model is the ONNX file as it is. fp32 draws the same everywhere. fp16 is not faster on WASM, and many GPUs
    have none. int8 takes about 0.7 of the time of fp32 on WASM, but WebGPU draws something else with it, so that
    the page stays with WASM.

    Args:
        out: the folder. One that this function wrote is replaced; any other must be empty.
        model: bundled style or ONNX file; ``MODEL:NAME`` or ``MODEL:A=0.7,B=0.3`` is what the page starts with.
        look: what the page starts with besides; its style is ``model``'s.
        onnxruntime_web: the npm package onnxruntime-web, a folder or .tgz; None downloads it once.

    Returns:
        Path of its index.html.

    Raises:
        ModelFileError: missing, damaged, or no ONNX file.
        StyleError: the style after the colon is not one of the model's; a page has neither encoder nor chooser.
        SourceError: onnxruntime-web cannot be had.
        SinkError: ``out`` holds what this function did not write, or cannot be written.
    """
    folder = Path(out).absolute()
    _check_replaceable(folder)
    path = resolve(split_style(model)[0])
    if path.suffix != ".onnx":
        raise ModelFileError(f"{path}", expected="an ONNX file: browsers run no TensorRT plan")
    files = _files(model, path, look or Look(), onnxruntime_web)
    try:
        _replace(folder, files)
    except OSError as error:
        raise SinkError(f"{folder}: {error}", do="check the folder's rights and the free space") from error
    return folder / "index.html"


def _files(model: str, path: Path, look: Look, onnxruntime_web: str | os.PathLike[str] | None) -> dict[str, bytes]:
    """Everything in the folder: name -> bytes."""
    runtime = onnxruntime_web_files(onnxruntime_web)
    binaries = {f"onnxruntime-web/{name}.js": data for name, data in runtime.items()}
    binaries["model.onnx.js"] = read_model_file(path)
    loaded = {name: _as_script(name, data) for name, data in binaries.items()}
    with Stylizer(model) as stylizer:
        pictures, config = thumbnails_from(stylizer), _config(stylizer, look)
    config["megabytes"] = round(sum(map(len, loaded.values())) / 1e6)
    found = {file.name: file.read_bytes() for file in sorted(PAGE.iterdir()) if file.is_file()}
    for name in _SERVERS:
        found.pop(name, None)
    found["index.html"] = _with_local_engine(found["index.html"])
    found["config.js"] = f"window.STYLESDK = {json.dumps(config)};\n".encode()
    found |= {style["thumbnail"]: pictures[style["name"]] for style in config["styles"]}
    found["onnxruntime-web/LICENSE"] = LICENCE.encode()
    return found | loaded


def _config(stylizer: Stylizer, look: Look) -> dict[str, Any]:
    if not stylizer.default_style:
        raise StyleError(
            "a picture or auto as the style of a page without a server",
            expected=f"one of {', '.join(stylizer.styles)}, or a mix of them",
            do="name a style, or start `stylesdk serve` without --static",
        )
    # Numbers: a style's name is whatever its manifest says, and no path.
    styles = [
        {"name": name, "title": title_of(name), "thumbnail": f"thumbnails/{number}.jpg"}
        for number, name in enumerate(stylizer.styles, 1)
    ]
    config = {
        "mode": "local",
        "version": __version__,
        "backend": f"onnxruntime-web {VERSION}",
        "styles": styles,
        "default": look_values(replace(look, style=stylizer.default_style)),
        "transports": [],
        "limits": {"max_side": _MAX_SIDE},
        "model": "model.onnx.js",
        "runtime": [f"onnxruntime-web/{name}.js" for name in FILES],
    }
    codes = stylizer.manifest and stylizer.manifest.codes
    return config | ({"codes": codes} if codes else {})


def _with_local_engine(page: bytes) -> bytes:
    scripts = "\n".join(f'<script src="{name}" defer></script>' for name in _SCRIPTS)
    page, count = _ENGINE.subn(scripts.encode(), page)
    if count != 1:
        raise AssertionError("index.html without its mark <!-- engine … <!-- /engine -->")
    return page


def _as_script(name: str, data: bytes) -> bytes:
    """A script that hands over a file. The same bytes give the same script."""
    text = base64.b64encode(gzip.compress(data, mtime=0)).decode()
    return f'((window.stylesdk ||= {{}}).assets ||= {{}})[{json.dumps(name)}] = "{text}";\n'.encode()


def _check_replaceable(folder: Path, place: Path | None = None) -> None:
    """Raise SinkError where ``folder``, now at ``place``, holds what we did not write, or what was changed since."""
    place = place or folder
    if not os.path.lexists(place):
        return
    do = "choose a new folder, or move away what you keep"
    if place.is_symlink() or not place.is_dir():
        raise SinkError(f"{folder}, no folder", expected="a folder, or a new name", do=do)
    try:
        ours: dict[str, str] = json.loads((place / _LIST).read_bytes())["files"]
    except (OSError, ValueError, TypeError, KeyError):
        ours = {}
    others = sorted(
        name
        for path in place.rglob("*")
        if path.name not in _LITTER and (not path.is_dir() or path.is_symlink())
        if (name := path.relative_to(place).as_posix()) != _LIST and ours.get(name) != _digest(path)
    )
    if others:
        raise SinkError(
            f"{folder}, which holds {', '.join(others[:5])}{' …' if len(others) > 5 else ''}",
            expected="an empty folder, or one that this command wrote and nobody changed since",
            do=do,
        )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _replace(folder: Path, files: dict[str, bytes]) -> None:
    """Write beside ``folder``, then take its name: a page is never half there, and whatever happens, one is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    new, old = work / "new", work / "old"
    listed = {"files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    files = {**files, _LIST: (json.dumps(listed, indent=1) + "\n").encode()}
    try:
        for name, data in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        if folder.exists():
            folder.rename(old)
            _check_replaceable(folder, old)  # again: writing took a while
        new.rename(folder)
    finally:
        if new.exists() and old.exists():
            old.rename(folder)  # where this fails, nothing is removed
        shutil.rmtree(work, ignore_errors=True)
