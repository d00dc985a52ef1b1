"""onnxruntime-web, the runtime of the page that needs no server: found, downloaded, checked. Not part of stylesdk.

Of its package three files are needed: the build with WebGPU, which has the CPU's code (WASM with SIMD) too. Its CPU
code is as fast as that of the build without, so one build does for every browser.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from stylesdk.errors import SourceError, StyleSDKError
from stylesdk.private_folder import private_folder

VERSION = "1.30.0"
FILES = {  # name -> SHA-256
    "ort.webgpu.min.js": "7d65dad7eb4564ad98db9924a259af2e2c68ebfbdbf254fa5d728f1c5736e07a",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
LICENCE = f"""onnxruntime-web {VERSION}, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.

The software that onnxruntime itself contains, and its licences:
https://github.com/microsoft/onnxruntime/blob/v{VERSION}/ThirdPartyNotices.txt
"""
_CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
_MAX_BYTES = 64 * 2**20
_TIMEOUT = 60.0  # seconds without a byte
_PACK = f"npm pack onnxruntime-web@{VERSION}"
_GIVE = f"`{_PACK}`, then --onnxruntime-web onnxruntime-web-{VERSION}.tgz"


def onnxruntime_web_files(package: str | os.PathLike[str] | None = None) -> dict[str, bytes]:
    """The files of ``FILES``, each with the bytes that its SHA-256 promises.

    Args:
        package: the npm package as a folder or .tgz; None takes what was downloaded before, or downloads it once
            from the CDN jsDelivr into the user's cache folder.

    Raises:
        SourceError: not there, another version, damaged, no network, or the cache folder cannot be read or written.
        DeviceError: the cache folder cannot be made, or others may write there.
    """
    if package is None:
        folder = private_folder("onnxruntime-web", VERSION)
        try:
            return _downloaded(folder)
        except OSError as error:
            raise SourceError(
                f"{error}", expected=f"a cache folder to read and write, {folder}", do=f"make room there, or {_GIVE}"
            ) from error
    path = Path(package)
    try:
        found = _from_folder(path) if path.is_dir() else _from_archive(path)
    except (OSError, KeyError, tarfile.TarError, EOFError, zlib.error) as error:
        raise SourceError(
            f"{path}: {error}", expected=f"the npm package onnxruntime-web {VERSION}, a folder or .tgz", do=_PACK
        ) from error
    for name, data in found.items():
        if not _is_right(name, data):
            raise SourceError(
                f"{path}, whose {name} is another version's, or damaged", expected=f"version {VERSION}", do=_PACK
            )
    return found


def _from_folder(folder: Path) -> dict[str, bytes]:
    inner = folder / "dist" if (folder / "dist").is_dir() else folder
    return {name: (inner / name).read_bytes() for name in FILES}


def _from_archive(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:gz") as archive:
        return {name: _member(archive, f"package/dist/{name}") for name in FILES}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)  # KeyError where it is not there; None where it is no file
    return b"" if file is None else file.read(_MAX_BYTES)


def _downloaded(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in FILES:
        kept = folder / name
        found[name] = kept.read_bytes() if kept.is_file() else b""
        if not _is_right(name, found[name]):
            found[name] = _download(name)
            part = folder / f".{name}.{os.getpid()}.part"
            try:
                part.write_bytes(found[name])
                part.replace(kept)
            finally:
                part.unlink(missing_ok=True)
    return found


def _download(name: str) -> bytes:
    try:
        with urllib.request.urlopen(_CDN + name, timeout=_TIMEOUT) as reply:  # noqa: S310 - https, written above
            data: bytes = reply.read(_MAX_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise _no_download(f"{_CDN}{name}: {error}") from error
    if not _is_right(name, data):
        raise _no_download(f"{_CDN}{name}, other bytes than those of version {VERSION}")
    return data


def _no_download(got: str) -> StyleSDKError:
    return SourceError(got, expected="onnxruntime-web from the network, once", do=f"{_GIVE}, where there is a network")


def _is_right(name: str, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == FILES[name]
