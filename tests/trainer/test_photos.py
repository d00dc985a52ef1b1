"""Photos in folders, zips and tars: the same pictures from each, and every archive that is refused."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Settings, assert_same_weights, inverted, run
from typer.testing import CliRunner

from styletrainer.config import config_from_dict
from styletrainer.data import photos as photos_module
from styletrainer.data.crops import Crops, read_artwork, read_picture, sample_photos
from styletrainer.data.photos import Packed, list_photos
from styletrainer.data.pictures import photos_with_pictures
from styletrainer.errors import TrainError


@pytest.fixture
def folder(material: Path) -> Path:
    return material / "photos"


def zipped(folder: Path, path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for photo in sorted(folder.iterdir(), reverse=True):
            file.write(photo, f"set/{photo.name}")
        file.writestr("set/readme.txt", "no picture")
        file.writestr("__MACOSX/set/._0.png", "no picture either")
    return path


def tarred(photos: list[Path], path: Path) -> Path:
    """A WebDataset shard: each sample has a photo, a mask and a label."""
    with tarfile.open(path, "w") as file:
        for photo in photos:
            file.add(photo, photo.name)
            for name, data in ((f"{photo.stem}.mask.png", photo.read_bytes()), (f"{photo.stem}.cls", b"7")):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                file.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture(params=["zip", "deflated", "lzma", "tar", "shards", "folder of tars"])
def source(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Path:
    photos = sorted(folder.iterdir())
    methods = {"zip": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED, "lzma": zipfile.ZIP_LZMA}
    if request.param in methods:
        return zipped(folder, tmp_path / "photos.zip", methods[request.param])
    if request.param == "tar":
        return tarred(photos, tmp_path / "photos.tar")
    for shard in range(3):
        tarred(photos[2 * shard : 2 * shard + 2], tmp_path / f"photos-{shard:02}.tar")
    return tmp_path / "photos-{00..02}.tar" if request.param == "shards" else tmp_path


def test_an_archive_has_the_photos_of_its_folder(source: Path, folder: Path) -> None:
    packed, plain = list_photos(source), list_photos(folder)
    assert [photo.name for photo in packed] == [photo.name for photo in plain] == [f"{i}.png" for i in range(6)]
    assert [photo.suffix + photo.stem for photo in packed] == [photo.suffix + photo.stem for photo in plain]
    for ours, theirs in zip(pickle.loads(pickle.dumps(packed)), plain, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
        assert np.array_equal(read_picture(ours), read_picture(theirs))  # type: ignore[arg-type]
    for ours, theirs in zip(sample_photos(packed), sample_photos(plain), strict=True):
        assert torch.equal(ours, theirs)


def test_items_are_those_of_the_folder(source: Path, folder: Path, settings: Settings) -> None:
    artwork = read_artwork(Path(settings["artworks"][0]), 96, 64)  # type: ignore[index]
    packed, plain = (Crops(list_photos(x), [[artwork]], 64, 2, seed=3) for x in (source, folder))
    for index in (5, 0, 17):
        for ours, theirs in zip(packed[index][:3], plain[index][:3], strict=True):
            assert torch.equal(ours, theirs)


def test_training_from_an_archive_is_training_from_the_folder(settings: Settings, folder: Path, tmp_path: Path) -> None:
    plain = run(settings)
    archive = zipped(folder, tmp_path / "photos.zip", zipfile.ZIP_DEFLATED)
    assert_same_weights(plain, run(settings, photos=str(archive), run=str(tmp_path / "zip"), workers=1))
    shards = [tarred([photo], tmp_path / f"{photo.stem}.tar") for photo in sorted(folder.iterdir())]
    assert len(shards) == 6
    pattern = tmp_path / "{0..5}.tar"
    assert_same_weights(plain, run(settings, photos=str(pattern), run=str(tmp_path / "tar")))


def test_pictures_of_a_teacher_are_found_for_zipped_photos(settings: Settings, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for photo in folder.iterdir():
            file.write(photo, photo.name)
    painted = Path(inverted(settings, tmp_path / "painted"))
    kept, (pictures,) = photos_with_pictures(list_photos(archive), archive, [painted])
    assert [picture.stem for picture in pictures] == [photo.stem for photo in kept] == [str(i) for i in range(6)]


def test_a_damaged_picture_does_not_read_and_the_others_do(folder: Path, tmp_path: Path) -> None:
    archive = zipped(folder, tmp_path / "photos.zip")
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        entry = file.getinfo("set/3.png")
        data[entry.header_offset + 200 : entry.header_offset + 260] = bytes(60)  # its checksum is wrong now
    archive.write_bytes(data)
    assert [read_picture(photo) is None for photo in list_photos(archive)] == [i == 3 for i in range(6)]


def test_an_archive_that_went_away_does_not_read(folder: Path, tmp_path: Path) -> None:
    shard = tarred(sorted(folder.iterdir()), tmp_path / "photos.tar")
    photo = list_photos(shard)[0]
    shard.unlink()
    assert read_picture(photo) is None


def refused(source: Path, *words: str) -> None:
    with pytest.raises(TrainError) as caught:
        list_photos(source)
    for word in ("got:", "expected:", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.97])
def test_truncated_archives(folder: Path, tmp_path: Path, part: float) -> None:
    for archive in (zipped(folder, tmp_path / "a.zip"), tarred(sorted(folder.iterdir()), tmp_path / "a.tar")):
        data = archive.read_bytes()
        end = len(data) if archive.suffix == ".zip" else len(data.rstrip(b"\0")) - 600
        archive.write_bytes(data[: int(end * part)])
        refused(archive, str(archive), "Do this")


def test_archives_of_another_kind(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive" * 100)
    refused(tmp_path / "text.zip", "does not read as zip", "copy or pack it again")
    (tmp_path / "text.tar").write_text("no archive" * 100)
    refused(tmp_path / "text.tar", "does not read as tar")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as file:
        file.add(folder / "0.png", "0.png")
    refused(tmp_path / "packed.tar", "without compression")


def test_encrypted_entries(folder: Path, tmp_path: Path) -> None:
    archive = zipped(folder, tmp_path / "photos.zip")
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1  # the flag of an entry that has a password
    archive.write_bytes(data)
    refused(archive, "1 entries are encrypted, first set/5.png", "unpack it")


def test_unknown_compression(folder: Path, tmp_path: Path) -> None:
    archive = zipped(folder, tmp_path / "photos.zip")
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 10 : at + 12] = struct.pack("<H", 97)  # WavPack
    archive.write_bytes(data)
    refused(archive, "set/5.png is packed by a method")


@pytest.mark.parametrize("name", ["../0.png", "a/../../0.png", "/etc/0.png", "..\\0.png"])
def test_names_that_lead_outside(folder: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zip_file:
        zip_file.writestr(name, (folder / "0.png").read_bytes())
    with tarfile.open(tmp_path / "a.tar", "w") as tar_file:
        entry = tarfile.TarInfo(f"x/{name}" if name.startswith("..") else name)
        tar_file.addfile(entry)
    for archive in (tmp_path / "a.zip", tmp_path / "a.tar"):
        # A name such as ..\0.png is a WebDataset sample without a photo: refused for that.
        with pytest.raises(TrainError, match=r"stay inside the archive|holds no picture|no picture below"):
            list_photos(archive)
    refused(tmp_path / "a.zip", "stay inside the archive")


def test_bombs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that says that it is too large is refused; one that lies is cut at what it said."""
    monkeypatch.setattr(photos_module, "LARGEST", 2**20)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("0.png", bytes(2**20 + 1))
    refused(bomb, "0.png of 1 MiB", "at most 1 MiB")
    data = bytearray(bomb.read_bytes())
    for at, offset in ((data.index(b"PK\x01\x02"), 24), (data.index(b"PK\x03\x04"), 22)):
        data[at + offset : at + offset + 4] = struct.pack("<I", 1000)
    bomb.write_bytes(data)
    (photo,) = list_photos(bomb)
    assert isinstance(photo, Packed) and photo.size == 1000
    assert read_picture(photo) is None
    shard = tmp_path / "bomb.tar"
    with tarfile.open(shard, "w") as tar_file:
        entry = tarfile.TarInfo("0.png")
        entry.size = 2**20 + 1
        tar_file.addfile(entry, io.BytesIO(bytes(entry.size)))
    refused(shard, "at most 1 MiB")


def test_archives_without_photos_and_shards_that_are_missing(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    refused(tmp_path / "empty.zip", "holds no picture")
    tarred([folder / "0.png"], tmp_path / "s-0.tar")
    refused(tmp_path / "s-{0..2}.tar", "2 are not there, first", "s-1.tar")
    refused(tmp_path / "photos.zip", "no picture below", "cocodataset.org")


def test_pictures_beside_tars(folder: Path, tmp_path: Path) -> None:
    """Which of the two is meant is not to be guessed: one preview would be the only photo, or never be seen."""
    (tmp_path / "deep").mkdir()
    shard = tarred(sorted(folder.iterdir()), tmp_path / "deep" / "photos.tar")
    preview = tmp_path / "preview.png"
    preview.write_bytes((folder / "0.png").read_bytes())
    refused(tmp_path, str(shard), str(preview), "one or the other", "Do this")
    preview.unlink()
    assert len(list_photos(tmp_path)) == 6


def test_links_in_a_tar_are_no_photos(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(folder / "0.png", "0.png")
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    assert [photo.name for photo in list_photos(tmp_path / "a.tar")] == ["0.png"]


def test_without_photos_the_trainer_says_where_some_are(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        config_from_dict({k: v for k, v in settings.items() if k != "photos"} | {"steps": 0}, "the test")
    for word in ("photos: got none", ".zip", "COCO", "Open Images", "Unsplash", "BSDS500", "Pexels", "steps: got 0"):
        assert word in str(caught.value)
    from styletrainer.cli import app

    result = CliRunner().invoke(app, [*settings["artworks"], "-o", str(tmp_path / "r")])  # type: ignore[misc]
    assert isinstance(result.exception, TrainError) and "cocodataset.org" in str(result.exception)
    assert not (tmp_path / "r").exists()
