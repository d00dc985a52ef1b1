"""`stylesdk compare`: the same photos in every run, figures by hand, and every run that is broken named at once."""

from __future__ import annotations

import base64
import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from runs import Settings, many, run
from test_html_report import Page, assert_stands_alone
from typer.testing import CliRunner

from styletrainer import losses
from styletrainer.config import config_from_dict
from styletrainer.data.crops import read_artwork, rgb_from_tensor, sample_photos, tensor_from_rgb
from styletrainer.data.photos import list_photos
from styletrainer.errors import TrainError
from styletrainer.generators import Realtime, with_margin
from styletrainer.pages.compare import CONTENT_LAYERS, STYLE_LAYERS, _artworks, app, read_runs
from styletrainer.perceptual import Perceptual, load_weight_sets
from styletrainer.run.checkpoint import WEIGHTS, load_weights
from styletrainer.run.report import ORIGIN


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def runs(settings: Settings, two_runs: Path) -> list[Path]:
    """One run of one style, one of two: made once, for they are only read."""
    one, two = two_runs / "one", two_runs / "<two>"
    if not one.exists():
        run(settings, run=str(one), steps=3)
        run(many(settings), run=str(two), steps=3, seed=5)
    return [one, two]


def compare(settings: Settings, *line: str) -> None:
    given = [*line, "--vgg", settings["vgg"][0]]  # type: ignore[index]
    CliRunner().invoke(app, given, catch_exceptions=False)


def sheet(page: Page) -> np.ndarray:
    (picture,) = page.named("img")
    data = base64.b64decode(str(picture["src"]).partition(",")[2])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]  # type: ignore[return-value]


def test_page_of_two_runs(settings: Settings, runs: list[Path], tmp_path: Path) -> None:
    compare(settings, *map(str, runs), "-o", str(tmp_path / "new" / "page.html"))
    page = Page((tmp_path / "new" / "page.html").read_text(encoding="utf-8"))
    assert_stands_alone(page)
    words = [word.strip() for word in page.words if word.strip()]
    assert "Runs compared: one, <two>" in words
    assert {"seed", "styles", "artworks"} <= set(words) and "crop" not in words
    labels = [str(chart["aria-label"]) for chart in page.named("svg")]
    assert any("style over steps. one: " in label and "; <two>: " in label for label in labels)
    assert any("total over minutes" in label for label in labels)

    photos = sample_photos(list_photos(Path(str(settings["photos"]))), 6)
    drawn = sheet(page)
    assert drawn.shape == (4 * 256, 7 * 256, 3)
    assert np.array_equal(drawn[:256, 256:512], rgb_from_tensor(photos[0]))
    generator = Realtime(size="nano", styles=2)
    load_weights(generator, runs[1] / WEIGHTS)
    with torch.no_grad():
        styled = with_margin(generator.eval(), torch.stack(photos), torch.tensor([0.0, 1.0]))
    assert np.abs(drawn[768:, 256:512].astype(int) - rgb_from_tensor(styled[0])).max() <= 1


def test_figures_by_hand(settings: Settings, runs: list[Path], tmp_path: Path) -> None:
    """Content, style, total variation in float64, one photo at a time."""
    compare(settings, str(runs[0]), "-o", str(tmp_path))
    words = [word.strip() for word in Page((tmp_path / "compare.html").read_text(encoding="utf-8")).words]
    at = words.index("total variation")
    found = [float(word) for word in words[at + 1 : words.index("Settings that differ")] if word and word != "one"]

    judge = Perceptual((*CONTENT_LAYERS, *STYLE_LAYERS), load_weight_sets([Path(settings["vgg"][0])])).double()  # type: ignore[index]
    generator = Realtime(size="nano").eval()
    load_weights(generator, runs[0] / WEIGHTS)
    artwork = tensor_from_rgb(read_artwork(Path(settings["artworks"][0]), 96, 64))  # type: ignore[index]
    wanted = []
    with torch.no_grad():
        grams = {k: losses.gram(v.double()) for k, v in judge(artwork[None].double()).items()}
        for photo in sample_photos(list_photos(Path(str(settings["photos"]))), 6):
            picture = with_margin(generator, photo[None], None).clamp(0, 1)
            ours, theirs = judge(picture.double()), judge(photo[None].double())
            content = [((ours[k] - theirs[k]) ** 2).mean() / (theirs[k] ** 2).mean() for k in CONTENT_LAYERS]
            style = [((losses.gram(ours[k]) - grams[k]) ** 2).mean() / (grams[k] ** 2).mean() for k in STYLE_LAYERS]
            variation = sum(float((picture.diff(dim=axis) ** 2).mean()) for axis in (2, 3))
            wanted.append([float(sum(content)) / 2, float(sum(style)) / 3, variation])
    assert found == pytest.approx(np.mean(wanted, axis=0), rel=2e-3)


def test_photos_can_be_given(settings: Settings, runs: list[Path], tmp_path: Path) -> None:
    photo = np.full((300, 256, 3), (30, 120, 200), np.uint8)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as file:
        file.writestr("a.png", cv2.imencode(".png", photo)[1].tobytes())
    compare(settings, str(runs[0]), "--photos", str(tmp_path / "mine.zip"), "-o", str(tmp_path / "page.html"))
    drawn = sheet(Page((tmp_path / "page.html").read_text(encoding="utf-8")))
    assert drawn.shape == (512, 512, 3)
    assert np.array_equal(drawn[:256, 256:], photo[:256, :, ::-1])


def test_artworks_in_an_archive_and_in_its_folder_are_the_same(settings: Settings, tmp_path: Path) -> None:
    folder = Path(str(settings["photos"]))
    cyclegan = settings | {"recipe": "cyclegan", "generator": "johnson", "generator_options": {"channels": 4}}
    with zipfile.ZipFile(tmp_path / "works.zip", "w") as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    ours, theirs = (
        _artworks(config_from_dict(cyclegan | {"artworks": [str(source)]}, "the test"))
        for source in (tmp_path / "works.zip", folder)
    )
    assert len(ours[0]) == len(theirs[0]) == 6
    assert all(torch.equal(left, right) for left, right in zip(ours[0], theirs[0], strict=True))


def test_every_broken_run_is_named_at_once(settings: Settings, runs: list[Path], tmp_path: Path) -> None:
    for name in ("weights", "stats", "config", "art"):
        shutil.copytree(runs[0], tmp_path / name)
    (tmp_path / "weights" / WEIGHTS).write_bytes(b"broken")
    (tmp_path / "stats" / "stats.jsonl").write_text('{"step": 1')
    (tmp_path / "config" / "config.json").write_text("{")
    text = (tmp_path / "art" / "config.json").read_text()
    (tmp_path / "art" / "config.json").write_text(text.replace("artwork.png", "away.png"))
    broken = [tmp_path / name for name in ("weights", "stats", "config", "art", "missing")]
    with pytest.raises(TrainError) as caught:
        read_runs([runs[0], *broken])
    message = str(caught.value)
    assert message.startswith("5 of 6 runs cannot be compared")
    for folder in broken:
        assert f"\n  {folder}: " in message
    assert "safetensors" in message and "first tick" in message and "away.png" in message


def test_folders_of_one_name_are_told_apart(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "one")
    assert [found.name for found in read_runs([runs[0], tmp_path / "one"])] == [str(runs[0]), str(tmp_path / "one")]


def test_photos_that_are_not_there(settings: Settings, runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no picture below"):
        compare(settings, str(runs[0]), "--photos", str(tmp_path / "nowhere"), "-o", str(tmp_path))
    with pytest.raises(TrainError, match="folder that can be written"):
        (tmp_path / "file").write_text("")
        compare(settings, str(runs[0]), "-o", str(tmp_path / "file" / "page.html"))


def test_an_imported_run_beside_one_that_began_with_it(settings: Settings, runs: list[Path], tmp_path: Path) -> None:
    """Its artworks are file names of another machine: it is drawn, and nothing is judged by them."""
    imported = tmp_path / "imported"
    shutil.copytree(runs[0], imported)
    config = json.loads((imported / "config.json").read_text()) | {"artworks": ["artwork.png"]}
    (imported / "config.json").write_text(json.dumps(config))
    (imported / ORIGIN).write_text("{}")
    first, second = read_runs([imported, runs[0]])
    assert first.artworks == ((),) and second.artworks != ((),)
    compare(settings, str(imported), str(runs[0]), "-o", str(tmp_path / "page.html"))
    drawn = sheet(Page((tmp_path / "page.html").read_text(encoding="utf-8")))
    assert np.array_equal(drawn[256:512, 256:], drawn[512:768, 256:])  # the same network twice
