"""`stylesdk serve --static`: the folder that it writes, and what it refuses."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import shutil
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from stylesdk.errors import ModelFileError, SinkError, SourceError, StyleError
from stylesdk.styles import resolve
from stylesdk.web import onnxruntime_web
from stylesdk.web.cli import app
from stylesdk.web.onnxruntime_web import FILES, VERSION, onnxruntime_web_files
from stylesdk.web.static import write_static_page
from tiny_models import CODES, coded_onnx, picture_onnx, write_with_companions


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A pretended onnxruntime-web: the files' names, with our own bytes and their SHA-256."""
    made = {name: f"/* {name} */".encode() * 50 for name in FILES}
    for name, data in made.items():
        monkeypatch.setitem(FILES, name, hashlib.sha256(data).hexdigest())
    return made


@pytest.fixture
def package(contents: dict[str, bytes], tmp_path: Path) -> Path:
    """The npm package as a folder."""
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name, data in contents.items():
        (dist / name).write_bytes(data)
    return dist.parent


def archive(contents: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in contents.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def everything(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def handed_over(script: bytes) -> tuple[str, bytes]:
    """The name and bytes of the file that a script holds."""
    found = re.search(r'\[("[^"]+")\] = "([A-Za-z0-9+/=]+)";$', script.decode())
    assert found is not None
    return json.loads(found[1]), gzip.decompress(base64.b64decode(found[2]))


def config_of(out: Path) -> dict[str, Any]:
    text = (out / "config.js").read_text().removeprefix("window.STYLESDK = ").rstrip().removesuffix(";")
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_folder_holds_the_same_bytes_as_model_and_runtime(
    package: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    index = write_static_page(tmp_path / "out", "wave.nano", onnxruntime_web=package)
    files = everything(index.parent)
    assert handed_over(files["model.onnx.js"]) == ("model.onnx.js", resolve("wave.nano").read_bytes())
    for name, data in contents.items():
        place = f"onnxruntime-web/{name}.js"
        assert handed_over(files[place]) == (place, data)
    assert b"MIT License" in files["onnxruntime-web/LICENSE"]
    listed = json.loads(files.pop("files.json"))["files"]
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_the_page_needs_nothing_but_what_lies_beside_it(package: Path, tmp_path: Path) -> None:
    out = write_static_page(tmp_path / "out", "six:wave=3,udnie=1", onnxruntime_web=package).parent
    config = config_of(out)
    assert config["mode"] == "local"
    assert config["default"]["style"] == {"wave": 0.75, "udnie": 0.25}
    page = (out / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"config.js", "local.js", "local_worker.js", "pixels.js", "ui.js", "style.css"} <= set(named)
    styles = config["styles"]
    assert [style["name"] for style in styles][:2] == ["starry_night", "the_scream"]
    named += [config["model"], *config["runtime"], *(style["thumbnail"] for style in styles)]
    for name in named:
        assert (out / name).is_file(), name
    assert not {"remote.js", "socket.js", "peer.js"} & {path.name for path in out.iterdir()}
    picture = cv2.imdecode(np.fromfile(out / styles[3]["thumbnail"], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (108, 192, 3)


def test_codes_are_told_to_the_page_and_pictures_are_not_for_it(package: Path, tmp_path: Path) -> None:
    chooser = picture_onnx("chooser", "paint", ("low", "high"))
    model = write_with_companions(tmp_path, coded_onnx(), {"chooser": chooser})
    out = write_static_page(tmp_path / "out", f"{model}:high", onnxruntime_web=package).parent
    assert config_of(out)["codes"] == [list(code) for code in CODES]
    assert config_of(out)["default"]["style"] == {"high": 1.0}
    with pytest.raises(StyleError, match=r"one of low, high(.|\n)*without --static"):
        write_static_page(tmp_path / "other", f"{model}:auto", onnxruntime_web=package)
    assert not (tmp_path / "other").exists()


def test_folder_and_archive_of_the_package_give_the_same_page_again(
    package: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    tgz = archive(contents, tmp_path / "onnxruntime-web.tgz")
    first = everything(write_static_page(tmp_path / "a", "wave.nano", onnxruntime_web=package).parent)
    second = everything(write_static_page(tmp_path / "b", "wave.nano", onnxruntime_web=tgz).parent)
    assert first == second


def test_its_own_folder_is_replaced_as_a_whole(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    out.mkdir()  # an empty one is as good as none
    write_static_page(out, "six", onnxruntime_web=package)
    assert len(list((out / "thumbnails").iterdir())) == 6
    (out / "thumbnails" / ".DS_Store").write_bytes(b"left by a look at the folder")
    write_static_page(out, "wave.nano", onnxruntime_web=package)
    assert len(list((out / "thumbnails").iterdir())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "site"]


@pytest.mark.parametrize("what", ["another file", "a changed page", "another folder", "a file", "a link"])
def test_what_it_did_not_write_is_never_replaced(what: str, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine")
    elif what == "another folder":
        out.mkdir()
        (out / "files.json").write_text("[]")
        (out / "mine.txt").write_text("mine")
    else:
        write_static_page(out, "wave.nano", onnxruntime_web=package)
        if what == "another file":
            (out / ".git").mkdir()
            (out / ".git" / "HEAD").write_text("ref")
        elif what == "a changed page":
            (out / "index.html").write_text("mine")
        else:
            out.rename(tmp_path / "elsewhere")
            out.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    before = everything(tmp_path)
    with pytest.raises(SinkError, match="do this: choose a new folder, or move away what you keep"):
        write_static_page(out, "wave.nano", onnxruntime_web=package)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_page_that_cannot_be_written_leaves_the_one_before(
    failure: BaseException, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_static_page(out, "wave.nano", onnxruntime_web=package)
    before = everything(out)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == out and self.name == "new":
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(SinkError if isinstance(failure, OSError) else type(failure)):
        write_static_page(out, "six", onnxruntime_web=package)
    assert everything(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "package"]


def test_a_place_where_no_folder_can_be_is_told(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SinkError, match="check the folder's rights and the free space"):
        write_static_page(tmp_path / "file" / "out", "wave.nano", onnxruntime_web=package)


def test_what_came_in_while_it_wrote_is_kept(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = write_static_page(tmp_path / "out", "wave.nano", onnxruntime_web=package).parent
    write = Path.write_bytes

    def meanwhile(self: Path, data: bytes) -> int:
        if self.name == "files.json":
            (out / "mine.txt").write_text("mine")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", meanwhile)
    with pytest.raises(SinkError, match=f"{re.escape(str(out))}, which holds mine.txt"):
        write_static_page(out, "six", onnxruntime_web=package)
    assert (out / "mine.txt").read_text() == "mine"
    assert len(list((out / "thumbnails").iterdir())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "package"]


@pytest.mark.skipif(sys.platform == "win32", reason="rights are POSIX")
def test_a_web_server_may_read_the_folder(package: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    out = write_static_page(tmp_path / "out", "wave.nano", onnxruntime_web=package).parent
    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("nothing", ModelFileError),
        ("model.plan", ModelFileError),
        ("no.onnx", ModelFileError),
        ("six:nobody", StyleError),
    ],
)
def test_a_model_that_browsers_cannot_run_is_refused(
    model: str, error: type[Exception], package: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match="expected: "):
        write_static_page(tmp_path / "out", model, onnxruntime_web=package)
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_not_that_version_is_refused(
    package: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    name = next(iter(contents))
    (package / "dist" / name).write_bytes(b"another version")
    whole = archive(contents, tmp_path / "whole.tgz").read_bytes()
    (tmp_path / "half.tgz").write_bytes(whole[: len(whole) // 2])
    partly = archive({name: contents[name]}, tmp_path / "partly.tgz")
    (tmp_path / "text.tgz").write_text("no archive")
    for given in (package, tmp_path / "half.tgz", partly, tmp_path / "text.tgz", tmp_path / "none.tgz", tmp_path):
        with pytest.raises(SourceError, match=f"npm pack onnxruntime-web@{VERSION}"):
            onnxruntime_web_files(given)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def cdn(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server for what the CDN has, and an empty cache folder. Yields what the server's folder is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(package / "dist")))
    monkeypatch.setattr(onnxruntime_web, "_CDN", f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield package / "dist"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_runtime_is_downloaded_once(cdn: Path, contents: dict[str, bytes]) -> None:
    assert onnxruntime_web_files() == contents
    shutil.rmtree(cdn)
    assert onnxruntime_web_files() == contents


def test_a_damaged_download_is_refused_and_a_damaged_copy_is_replaced(
    cdn: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    name = next(iter(contents))
    (cdn / name).write_bytes(b"something else")
    with pytest.raises(SourceError, match="other bytes than those of version"):
        onnxruntime_web_files()
    (cdn / name).write_bytes(contents[name])
    assert onnxruntime_web_files() == contents
    kept = next((tmp_path / "cache").rglob(name))
    kept.write_bytes(b"half")
    assert onnxruntime_web_files() == contents
    assert kept.read_bytes() == contents[name]


def test_a_download_that_breaks_off_is_told(cdn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Quiet, "copyfile", lambda _self, source, out: out.write(source.read(20)))
    with pytest.raises(SourceError, match="onnxruntime-web from the network, once"):
        onnxruntime_web_files()


def test_a_cache_that_cannot_be_written_is_told(cdn: Path, contents: dict[str, bytes], tmp_path: Path) -> None:
    assert onnxruntime_web_files() == contents
    kept = next((tmp_path / "cache").rglob(next(iter(contents))))
    kept.unlink()
    kept.mkdir()  # a name that no file can take
    with pytest.raises(SourceError, match="expected: a cache folder to read and write, ") as error:
        onnxruntime_web_files()
    assert "--onnxruntime-web onnxruntime-web-" in str(error.value)
    assert not list(kept.parent.glob(".*.part"))


def test_without_a_network_the_error_says_what_to_do(cdn: Path) -> None:
    shutil.rmtree(cdn)
    with pytest.raises(SourceError) as error:
        onnxruntime_web_files()
    assert f"npm pack onnxruntime-web@{VERSION}" in str(error.value)
    assert f"--onnxruntime-web onnxruntime-web-{VERSION}.tgz" in str(error.value)


def test_the_command_writes_the_folder(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["-s", "wave.nano", "--static", str(out), "--onnxruntime-web", str(package)]
    arguments += ["--strength", "0.7", "--smoothing", "0.5", "--keep-color"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert str(out / "index.html") in result.output.replace("\n", "")
    assert (out / "index.html").is_file()
    look = {"style": {"wave": 1}, "strength": 0.7, "keep_color": True, "smoothing": 0.5}
    assert config_of(out)["default"] == look
