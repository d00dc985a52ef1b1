"""Where photos come from: a folder, a zip, or a WebDataset (tars), each read in place.

An archive is indexed once, and its pictures are read where they lie, in any order: item ``i`` of a run stays a function
of the seed and ``i`` alone, which WebDataset's own pipelines, streams that are shuffled in a buffer, cannot give. From
the library come the patterns of shards and the rule which file of a sample is its photo.
"""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from styletrainer.errors import TrainError

ARCHIVES = {".zip", ".tar"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}

# Bytes of one picture in an archive. What claims to be larger is no photo: it would fill the memory.
LARGEST = 256 * 2**20

FREE_SETS = """Free sets of photographs (read each one's terms before you use it):
  COCO             https://cocodataset.org       photos from Flickr, each under its own Creative Commons licence
  Open Images      https://storage.googleapis.com/openimages/web/index.html   photos listed as CC BY 2.0
  Unsplash Lite    https://unsplash.com/data     25,000 photos, Unsplash's terms for the Lite dataset
  BSDS500          https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html
                   500 photos, non-commercial research and education
  Pexels           https://www.pexels.com        single photos, the Pexels licence
Some hundred photos are enough. Your own do as well: what the camera will see is best."""
PHOTO_SOURCES = "a folder of photographs, a .zip, or a WebDataset: .tar, 'photos-{000..009}.tar', a folder of .tar"


@dataclass(frozen=True)
class Packed:
    """A picture inside a zip or tar, which stays packed."""

    archive: Path
    entry: str  # its name there
    offset: int  # of the bytes in a tar; -1 in a zip
    size: int

    @property
    def inside(self) -> PurePosixPath:
        return PurePosixPath(self.entry)

    @property
    def name(self) -> str:
        return self.inside.name

    @property
    def stem(self) -> str:
        return self.inside.stem

    @property
    def suffix(self) -> str:
        return self.inside.suffix

    def __str__(self) -> str:
        return f"{self.archive}:{self.entry}"

    def read_bytes(self) -> bytes:
        """The picture's file. Raises OSError where the archive was changed or damaged since it was listed."""
        if self.offset >= 0:
            with open(self.archive, "rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        try:
            # Never more than was announced, whatever the entry unpacks to.
            with _opened_zip(self.archive, os.getpid()).open(self.entry) as file:
                return file.read(self.size)
        # RuntimeError: encrypted, and, as NotImplementedError, packed in a way that zipfile does not read.
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, KeyError, RuntimeError, EOFError, ValueError) as error:
            raise OSError(f"{self}: {error}") from error


Photo = Path | Packed


def place(photo: Photo, of: Path) -> PurePosixPath:
    """Where a photo lies in its folder or archive ``of``."""
    return photo.inside if isinstance(photo, Packed) else PurePosixPath(photo.relative_to(of).as_posix())


def list_photos(source: Path, advice: str = f"give --photos some hundred photos.\n{FREE_SETS}") -> list[Photo]:
    """Every picture in a folder, searched in depth, in a zip, or in the tars of a WebDataset, also in a folder; sorted.

    ``advice``: what to do where there is none.

    Raises:
        TrainError: there is none; a folder has pictures beside tars, and whichever are meant, the others would be left
            out unseen; an archive is damaged, compressed as a whole, encrypted, or holds what no set of
            photos has.
    """
    found: list[Photo] = []
    if source.is_dir():
        walk = [Path(root, name) for root, _, names in os.walk(source) for name in names]
        found += sorted(path for path in walk if path.suffix.lower() in SUFFIXES)
        shards = sorted(path for path in walk if path.suffix.lower() == ".tar")
        if found and shards:
            raise TrainError(
                f"got: {source}, with pictures, first {found[0]}, beside tars, first {shards[0]}; expected: one or the "
                "other.\nDo this: give the folder of those that are meant, or take the others away."
            )
    elif source.suffix.lower() == ".zip" and source.is_file():
        return [*_index(source, _zip_index)]
    else:
        shards = _expanded(source)
    for shard in shards:
        found += _index(shard, _tar_index)
    if not found:
        raise TrainError(
            f"got: no picture below {source}; expected: {PHOTO_SOURCES} ({', '.join(sorted(SUFFIXES))}).\n"
            f"Do this: {advice}"
        )
    return found


def _expanded(pattern: Path) -> list[Path]:
    """The tars that a pattern with braces names; all of them must be there."""
    if pattern.suffix.lower() != ".tar":
        return []
    try:
        shards = [Path(shard) for shard in expand_urls(pattern.as_posix())]
    except ValueError as error:  # braces that do not match
        raise TrainError(f"got: {pattern} ({error}); expected: a pattern such as 'photos-{{000..009}}.tar'.") from error
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise TrainError(
            f"got: {pattern}, of whose {len(shards)} tars {len(missing)} are not there, first {missing[0]}; "
            f"expected: every one.\nDo this: check the pattern, such as 'photos-{{000..009}}.tar'."
        )
    return shards


def _index(archive: Path, read: Callable[[Path], list[Packed]]) -> list[Packed]:
    """The pictures of an archive, sorted by name; refuses what no set of photos has."""
    try:
        found = read(archive)
    # zipfile's own NotImplementedError: a zip of a later version than it reads.
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, NotImplementedError) as error:
        raise TrainError(
            f"got: {archive}, which does not read as {archive.suffix[1:]} ({error}); expected: a whole archive, "
            "a .tar without compression.\nDo this: copy or pack it again."
        ) from error
    for photo in found:
        if photo.inside.is_absolute() or ".." in photo.inside.parts or "\\" in photo.entry:
            raise TrainError(
                f"got: {archive} with an entry {photo.entry}; expected: names that stay inside the archive.\n"
                "Do this: do not trust this archive; pack the photos again from their folder."
            )
        if photo.size > LARGEST:
            raise TrainError(
                f"got: {archive} with an entry {photo.entry} of {photo.size / 2**20:.0f} MiB; expected: pictures of "
                f"at most {LARGEST // 2**20} MiB.\nDo this: leave that entry out."
            )
    if not found:
        raise TrainError(
            f"got: {archive}, which holds no picture ({', '.join(sorted(SUFFIXES))}); expected: {PHOTO_SOURCES}."
        )
    return sorted(found, key=lambda photo: photo.entry)


def _zip_index(path: Path) -> list[Packed]:
    with zipfile.ZipFile(path) as file:
        entries = [entry for entry in file.infolist() if _is_picture(PurePosixPath(entry.filename))]
    if locked := [entry.filename for entry in entries if entry.flag_bits & 0x1]:
        raise TrainError(
            f"got: {path}, in which {len(locked)} entries are encrypted, first {locked[0]}; expected: a zip without a "
            "password.\nDo this: unpack it, and give --photos the folder."
        )
    known = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    if odd := [entry.filename for entry in entries if entry.compress_type not in known]:
        raise ValueError(f"{odd[0]} is packed by a method that Python's zipfile does not know")
    return [Packed(path, entry.filename, -1, entry.file_size) for entry in entries]


def _tar_index(path: Path) -> list[Packed]:
    with tarfile.open(path, "r:") as file:  # not compressed: bytes have their place
        found = [
            Packed(path, member.name, member.offset_data, member.size)
            for member in file
            if member.isreg() and not member.issparse() and _is_photo_of_sample(member.name)
        ]
        end = file.offset
    # tarfile takes whatever is no header for the end, also that of half a copy.
    with open(path, "rb") as whole:
        whole.seek(end)
        if whole.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it breaks off, or is damaged, at byte {end}")
    return found


def _is_photo_of_sample(name: str) -> bool:
    """Of a WebDataset's sample 0001 the picture 0001.jpg, not its mask 0001.mask.png."""
    _, extension = base_plus_ext(name)
    return extension is not None and f".{extension.lower()}" in SUFFIXES and _is_picture(PurePosixPath(name))


def _is_picture(path: PurePosixPath) -> bool:
    # "._name.jpg" is what macOS packs beside name.jpg: no picture.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


@lru_cache(maxsize=4)
def _opened_zip(path: Path, process: int) -> zipfile.ZipFile:  # noqa: ARG001 - a forked worker has its own place in the file
    return zipfile.ZipFile(path)
