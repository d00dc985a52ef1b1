"""Where the bytes of a batch come from and go to: a folder of this machine, or one in a bucket."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stylesdk.errors import MissingExtraError, SinkError, SourceError, StyleSDKError
from stylesdk.live.sinks import check_writable

_PARTS = ".stylesdk-parts"  # in the output folder: files that are not whole yet
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


class Place(Protocol):
    """A folder of files. Names are relative to it, with / between folders; hidden ones are not seen.

    A file is made in ``scratch(name)``, a path of this machine, and gets its name by ``put``, in one step.
    """

    root: str

    def is_folder(self) -> bool: ...
    def names(self, pattern: str | None = None) -> list[str]: ...
    def has(self, name: str) -> bool: ...
    def present(self, names: Iterable[str]) -> set[str]: ...
    def check_writable(self) -> None: ...
    def fetch(self, name: str, scratch: Path) -> Path: ...
    def scratch(self, name: str) -> Path: ...
    def put(self, file: Path, name: str) -> None: ...
    def clear(self, names: Iterable[str]) -> None: ...


def absolute(text: str) -> str:
    """A path of this machine or ``file://`` URL as an absolute path, another URL as it is; no / at the end.

    Raises:
        SourceError: a ``file://`` URL of another machine.
    """
    if text.startswith("file://"):
        url = urlsplit(text)
        if url.netloc not in ("", "localhost"):
            raise SourceError(f"{text!r}, a file of another machine", expected="file:///absolute/path")
        text = url2pathname(url.path)
    return text.rstrip("/") if is_url(text) else Path(text).expanduser().absolute().as_posix()


def is_url(text: str) -> bool:
    """Whether ``text`` is a URL and no path: ``s3://bucket/folder``."""
    return "://" in text


def open_place(address: str) -> Place:
    """The folder at ``address``, as ``absolute`` gives it. It need not exist.

    Raises:
        MissingExtraError: no fsspec, or not the package of this kind of bucket.
        SourceError: a kind of URL that fsspec does not know.
    """
    return Bucket(address) if is_url(address) else Folder(address)


class Folder:
    """A folder of this machine, or one that several machines share."""

    def __init__(self, address: str) -> None:
        self._path = Path(address).resolve()
        self.root = self._path.as_posix().rstrip("/")

    def is_folder(self) -> bool:
        """Whether it exists."""
        return self._path.is_dir()

    def names(self, pattern: str | None = None) -> list[str]:
        """Every file in it and below, or those of a glob pattern, in which ``**`` is any depth."""
        if pattern is not None:
            found = glob.glob(pattern, root_dir=self._path, recursive=True)
            return [Path(name).as_posix() for name in found if self.has(name)]
        return list(self._walk())

    def _walk(self) -> Iterator[str]:
        for folder, below, files in os.walk(self._path):
            below[:] = [name for name in below if not name.startswith(".")]
            relative = Path(folder).relative_to(self._path)
            yield from ((relative / name).as_posix() for name in files if not name.startswith("."))

    def has(self, name: str) -> bool:
        """Whether the file ``name`` exists."""
        return (self._path / name).is_file()

    def present(self, names: Iterable[str]) -> set[str]:
        """Those of ``names`` that exist."""
        return {name for name in names if self.has(name)}

    def check_writable(self) -> None:
        """Make the folder. Raises SinkError where it cannot be written to."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"folder {self._path}: {error.strerror}", do="choose another folder") from error
        check_writable(self._path)

    def fetch(self, name: str, scratch: Path) -> Path:  # noqa: ARG002
        """The file ``name``, to be read and not changed."""
        return self._path / name

    def scratch(self, name: str) -> Path:
        """Where ``name`` is made: on the same disk, so that ``put`` is a rename."""
        return self._path / _PARTS / _key(name)

    def put(self, file: Path, name: str) -> None:
        """Move ``file`` out of the scratch folder to its name; what was there is replaced."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        file.replace(path)

    def clear(self, names: Iterable[str]) -> None:
        """Remove what killed workers left of ``names``."""
        parts = self._path / _PARTS
        if parts.is_dir():
            for key in {_key(name) for name in names} & {entry.name for entry in parts.iterdir()}:
                shutil.rmtree(parts / key, ignore_errors=True)
            with suppress(OSError):  # another run's parts are in it
                parts.rmdir()


class Bucket:
    """A folder that fsspec reaches. Files go through this machine's temporary folder, one at a time."""

    def __init__(self, address: str) -> None:
        self._fs, path = _filesystem(address)
        self._path = str(path).rstrip("/")
        # A bucket that is this machine's disk has the same name as the folder that it is.
        self.root = str(self._fs.unstrip_protocol(self._path)).removeprefix("file://").rstrip("/")

    def is_folder(self) -> bool:
        """Whether it exists."""
        with _asking(self.root):
            return bool(self._fs.isdir(self._path))

    def names(self, pattern: str | None = None) -> list[str]:
        """Every file in it and below, or those of a glob pattern, in which ``**`` is any depth."""
        with _asking(self.root):
            self._fs.invalidate_cache()
            found = self._fs.find(self._path) if pattern is None else self._fs.glob(f"{self._path}/{pattern}")
            names = [path.removeprefix(f"{self._path}/") for path in found]
        return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]

    def has(self, name: str) -> bool:
        """Whether the file ``name`` exists."""
        with _asking(self.root):
            return bool(self._fs.isfile(f"{self._path}/{name}"))

    def present(self, names: Iterable[str]) -> set[str]:
        """Those of ``names`` that exist, by one listing."""
        return set(names) & set(self.names())

    def check_writable(self) -> None:
        """Write and remove an empty file. Raises SinkError where that fails."""
        probe = f"{self._path}/{_PARTS}/{_key('')}"
        try:
            self._fs.makedirs(f"{self._path}/{_PARTS}", exist_ok=True)
            self._fs.pipe_file(probe, b"")
            self._fs.rm_file(probe)
        except Exception as error:
            raise SinkError(f"{self.root}: {said(error)}", expected="a folder to write to") from error

    def fetch(self, name: str, scratch: Path) -> Path:
        """A copy of the file ``name`` in the folder ``scratch``."""
        file = scratch / f"source{Path(name).suffix.lower()}"
        self._fs.get_file(f"{self._path}/{name}", str(file))
        return file

    def scratch(self, name: str) -> Path:
        """Where ``name`` is made: the same for every process of this machine, so that none is left for good."""
        return Path(tempfile.gettempdir()) / f"stylesdk-batch-{_key(f'{self.root}/{name}')}"

    def put(self, file: Path, name: str) -> None:
        """Upload ``file`` under a temporary name, then rename it; what was there is replaced."""
        path, part = f"{self._path}/{name}", f"{self._path}/{_PARTS}/{_key(name)}"
        for folder in (part, path):
            self._fs.makedirs(folder.rpartition("/")[0], exist_ok=True)
        self._fs.put_file(str(file), part)
        self._fs.mv(part, path)

    def clear(self, names: Iterable[str]) -> None:
        """Remove what killed workers left of ``names``, here and in the bucket."""
        keys = set()
        for name in names:
            keys.add(_key(name))
            shutil.rmtree(self.scratch(name), ignore_errors=True)
        with _asking(self.root):
            self._fs.invalidate_cache()
            for path in self._fs.find(f"{self._path}/{_PARTS}"):
                if path.rpartition("/")[2] in keys:
                    self._fs.rm_file(path)
        with suppress(OSError, NotImplementedError):  # there, and not empty; or no such thing as a folder
            self._fs.rmdir(f"{self._path}/{_PARTS}")


def said(error: Exception) -> str:
    """An error in words: ours as it is, a foreign one with its kind."""
    return str(error) if isinstance(error, StyleSDKError) else f"{type(error).__name__}: {error}"


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _filesystem(address: str) -> tuple[Any, Any]:
    scheme = address.partition("://")[0]
    try:
        return import_module("fsspec.core").url_to_fs(address)  # type: ignore[no-any-return]
    except ImportError as error:
        package = "fsspec" if error.name and error.name.startswith("fsspec") else _PACKAGES.get(scheme)
        if package is None:
            raise SourceError(f"{address}: {error}", do="install the package that it names") from error
        raise MissingExtraError(package, "buckets", f"{scheme}:// addresses") from error
    except ValueError as error:
        raise SourceError(f"{address}: {error}", expected="a folder, or a URL such as s3://bucket/folder") from error


@contextmanager
def _asking(address: str) -> Iterator[None]:
    # Each kind of bucket has its own errors, with no base class but Exception.
    try:
        yield
    except Exception as error:
        raise SourceError(
            f"{address}: {said(error)}", do="check the address, and this machine's credentials for it"
        ) from error
