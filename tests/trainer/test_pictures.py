"""A teacher's pictures: whose they are, which style they teach, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from runs import Settings, inverted, many, run, stats

from styletrainer.config import TrainConfig, changed_settings, config_from_dict, config_from_run
from styletrainer.data.crops import Crops, crop_batches
from styletrainer.data.photos import list_photos
from styletrainer.data.pictures import photos_with_pictures
from styletrainer.errors import TrainError

THREE = {"styles": ["a", "b", "c"], "artworks": ["a.jpg", "b.jpg", "c.jpg"]}


def resolved(settings: Settings, **changes: object) -> TrainConfig:
    return config_from_dict(settings | THREE | changes, "the test")


def test_folders_named_like_the_styles_come_in_their_order(settings: Settings) -> None:
    found = resolved(settings, pictures=["x/c", "y/a/", "b"])
    assert found.pictures == ("y/a/", "b", "x/c")
    assert not changed_settings(found, resolved(settings, pictures=["z/b", "z/c", "z/a"]))


def test_folders_of_other_names_keep_their_order(settings: Settings) -> None:
    assert resolved(settings, pictures=["2", "1", "3"]).pictures == ("2", "1", "3")


@pytest.mark.parametrize("pictures", [["b", "a", "third"], ["x/a", "y/a", "b"]])
def test_folders_of_which_some_are_named_like_styles(settings: Settings, pictures: list[str]) -> None:
    with pytest.raises(TrainError, match=r"pictures: got folders named a, b(, third)?, expected a, b, c, the styles"):
        resolved(settings, pictures=pictures)


def test_folder_of_a_new_style(settings: Settings) -> None:
    new = {"new_style_only": True, "start": "before"}
    for name in ("c", "anything"):
        assert resolved(settings, **new, pictures=[name]).pictures == (name,)
    with pytest.raises(TrainError, match=r"pictures: got folders named a, expected c, the styles that learn"):
        resolved(settings, **new, pictures=["a"])


def test_run_stores_the_folders_in_the_order_of_the_styles(settings: Settings, tmp_path: Path) -> None:
    folders = [inverted(settings, tmp_path / name) for name in "ba"]
    folder = run(many(settings), pictures=folders, steps=2)
    assert config_from_run(folder).pictures == tuple(reversed(folders))
    run(many(settings), pictures=folders[::-1], steps=3)  # the same run in whatever order they are given


@pytest.mark.parametrize("pictures", [["x/b", "x/a", "x/c"], ["x/b", "x/a", "third"]])
def test_order_that_an_earlier_version_stored_is_read_as_it_is(
    settings: Settings, tmp_path: Path, pictures: list[str]
) -> None:
    """Its network learned in this order, which must not be told otherwise; and it can still be exported."""
    stored = config_from_dict(settings | THREE | {"pictures": pictures}, "the test", stored=True)
    stored.save(tmp_path / "config.json")
    assert config_from_run(tmp_path).pictures == tuple(pictures)
    assert changed_settings(config_from_run(tmp_path), resolved(settings, pictures=["x/a", "x/b", "x/c"]))


def test_pictures_of_a_teacher_are_followed(settings: Settings, tmp_path: Path) -> None:
    pictures = [inverted(settings, tmp_path / "pictures")]
    lines = stats(run(settings, pictures=pictures, steps=16, tick=4, learning_rate=5e-3, teacher_weight=20.0))
    assert lines[-1]["teacher"] < lines[0]["teacher"]


def test_picture_of_another_size_than_its_photo_is_told_at_the_start(settings: Settings, tmp_path: Path) -> None:
    folder = Path(inverted(settings, tmp_path / "pictures"))
    for name in ("1.png", "4.png"):
        cv2.imwrite(str(folder / name), np.zeros((50, 60, 3), np.uint8))
    photos = Path(str(settings["photos"]))
    listed = r"2 picture\(s\)(.|\n)*1.png is 60x50, its photo 1.png 160x120\n.*4.png is 60x50"
    with pytest.raises(TrainError, match=listed):
        photos_with_pictures(list_photos(photos), photos, [folder])


def test_folder_without_a_picture_is_told_with_what_to_do_about_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(
        TrainError, match=r"no picture below .*pictures;(.|\n)*Do this: paint every photo: stylesdk run"
    ):
        run(settings, pictures=[str(tmp_path / "pictures")])


def test_photo_without_a_picture(settings: Settings, tmp_path: Path) -> None:
    folder = Path(inverted(settings, tmp_path / "pictures"))
    (folder / "3.png").unlink()
    with pytest.raises(TrainError, match=r"lacks pictures of 1 of 6 photos, first 3(.|\n)*stylesdk run"):
        run(settings, pictures=[str(folder)])


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_a_worker_are_told_as_they_are(settings: Settings, tmp_path: Path, workers: int) -> None:
    """Not as `Caught TrainError in DataLoader worker process 0`, with a traceback."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no picture")
    crops = Crops(list_photos(folder), [[np.zeros((80, 80, 3), np.uint8)]], 64, 2, 0)
    with pytest.raises(TrainError, match=r"^got: 64 unreadable photos in a row") as caught:
        next(crop_batches(crops, first_step=0, batch=2, rank=0, world=1, workers=workers))
    assert "Traceback" not in str(caught.value)


def photos_and_folder(settings: Settings, tmp_path: Path) -> tuple[Path, Path]:
    """Six photos in a folder of the test's own, and a picture of each."""
    photos = tmp_path / "photos"
    shutil.copytree(str(settings["photos"]), photos)
    return photos, Path(inverted(settings, tmp_path / "pictures"))


def test_photo_that_neither_reads_nor_has_a_picture_is_left_out(settings: Settings, tmp_path: Path) -> None:
    photos, folder = photos_and_folder(settings, tmp_path)
    readable = list_photos(photos)
    (photos / "._0.jpg").write_bytes(b"what macOS writes beside 0.jpg")
    (photos / "broken.png").write_bytes(readable[0].read_bytes()[:40])
    kept, pictures = photos_with_pictures(list_photos(photos), photos, [folder, folder])
    assert kept == readable
    assert pictures == [[folder / f"{photo.stem}.png" for photo in readable]] * 2
    run(settings, photos=str(photos), pictures=[str(folder)], steps=2)


def test_photo_that_reads_is_named_among_those_that_do_not(settings: Settings, tmp_path: Path) -> None:
    photos, folder = photos_and_folder(settings, tmp_path)
    (photos / "._0.jpg").write_bytes(b"what macOS writes beside 0.jpg")
    (folder / "4.png").unlink()
    with pytest.raises(TrainError, match=r"lacks pictures of 2 of 7 photos, first 4;"):
        photos_with_pictures(list_photos(photos), photos, [folder])


def test_no_photo_reads_and_none_has_a_picture(settings: Settings, tmp_path: Path) -> None:
    _, folder = photos_and_folder(settings, tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainError, match=r"lacks pictures of 1 of 1 photos, first a;"):
        photos_with_pictures(list_photos(tmp_path / "other"), tmp_path / "other", [folder])


def test_no_photo_has_a_picture_in_every_folder(settings: Settings, tmp_path: Path) -> None:
    """Two that do not read, each with a picture in one folder only."""
    folders = [tmp_path / name for name in ("photos", "left", "right")]
    for folder, names in zip(folders, ("ab", "a", "b"), strict=True):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainError, match=r"no photo has a picture in every folder"):
        photos_with_pictures(list_photos(folders[0]), folders[0], folders[1:])


def test_two_photos_of_one_name(settings: Settings, tmp_path: Path) -> None:
    photos, folder = photos_and_folder(settings, tmp_path)
    shutil.copy(photos / "2.png", photos / "2.jpg")
    assert len(photos_with_pictures(list_photos(photos), photos, [])[0]) == 7  # without pictures nothing is wrong
    with pytest.raises(TrainError, match=r"got: photos 2\.jpg and 2\.png in (.|\n)*rename one of them"):
        run(settings, photos=str(photos), pictures=[str(folder)])
