"""The report of a run: whole, valid, escaped, readable without scripts, pictures or other files."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from runs import Settings, run

from styletrainer.config import config_from_dict
from styletrainer.pages.report import charts, read_stats, sheet_of, shown, write_page, write_run_report
from styletrainer.run.report import STATS

VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Reads a page as strictly as a validator: tags close in order, ids are one of a kind, pictures have texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.open, self.ids, self.used = text, [], [], []  # type: ignore[var-annotated]
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        assert text.startswith("<!DOCTYPE html>")
        self.feed(text)
        self.close()
        assert not self.open, self.open
        assert len(set(self.ids)) == len(self.ids)
        assert set(self.used) <= set(self.ids)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), (tag, names)
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        for value in found.values():
            self.used += re.findall(r"url\(#([^)]+)\)", value or "")
        self.used += [str(found["xlink:href"])[1:]] if "xlink:href" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag]


def assert_stands_alone(page: Page) -> None:
    assert not page.named("script") and not page.named("link")
    for picture in page.named("img"):
        assert str(picture["src"]).startswith("data:image/png;base64,") and picture["alt"]
    for chart in page.named("svg"):
        assert chart["role"] == "img" and chart["aria-label"]
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", page.text)
    assert not any(name.startswith("on") for _, found in page.tags for name in found)
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_report_of_a_run(settings: Settings) -> None:
    folder = run(settings)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert_stands_alone(page)
    assert "Finished at step 6" in page.text
    pace = {"step", "seconds", "images_per_second", "skipped_photos"}
    losses = {name for tick in read_stats(folder) for name in tick} - pace
    labels = [str(chart["aria-label"]) for chart in page.named("svg")]
    assert sorted(label.partition(" over ")[0] for label in labels) == sorted(losses)
    for picture, step in zip(page.named("img"), (6, 1), strict=True):
        data = base64.b64decode(str(picture["src"]).partition(",")[2])
        there = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(there, cv2.imread(str(folder / f"samples-{step:06d}.png")))
        assert (picture["width"], picture["height"]) == ("1280", "512")
    assert "style_weight" in page.words and "currentColor" in page.text
    assert "color-scheme: light dark" in page.text


def test_names_with_markup_stay_text(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)<script>&'\"$x_1$"
    folder.mkdir()
    (folder / STATS).write_text('{"step": 1, "<b>loss": 2.0}\n{"step": 2, "<b>loss": 1.0}\n{"step": 3, "cut')
    config = config_from_dict(settings | {"artworks": ["<img src=x onerror=alert(1)>.png"]}, "the test")
    write_run_report(folder, config, "Ended & done.")
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert_stands_alone(page)
    assert f"Training report of {folder.name}" in "".join(page.words)
    assert not page.named("b") and not page.named("img")
    assert "<img src=x onerror=alert(1)>.png" in "".join(page.words)
    assert [chart["aria-label"] for chart in page.named("svg")] == [f"<b>loss over steps. {folder.name}: from 2 to 1"]


def test_first_and_last_samples_by_their_number(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / STATS).write_text('{"step": 1, "loss": 2.0}\n')
    for name in ("000020", "999999", "1000000", "best", "1-of-2"):
        cv2.imwrite(str(tmp_path / f"samples-{name}.png"), np.zeros((4, 5, 3), np.uint8))
    write_run_report(tmp_path, config_from_dict(settings, "the test"), "Ended.")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [str(picture["alt"]).rpartition(" ")[2] for picture in page.named("img")] == ["1000000", "20"]


def test_two_charts_have_ids_and_lines_of_their_own() -> None:
    runs = {
        "_a": [{"step": s, "seconds": 60.0 * s, "x": 1.0 / s, "y": 2.0} for s in (1, 2, 4)],
        "b": [{"step": 3, "x": 5.0}],
    }
    over_steps = charts(runs, "step")
    assert len(over_steps) == 2
    assert "x over steps. _a: from 1 to 0.25; b: from 5 to 5" in over_steps[0]
    assert "_a" in re.sub(r"<svg[^>]*>", "", over_steps[0])  # and in the legend
    over_time = charts(runs, "seconds")
    assert "x over minutes. _a: from 1 to 0.25" in over_time[0] and "b:" not in over_time[0]
    ids = [name for chart in over_steps + over_time for name in re.findall(r'id="([^"]+)"', chart)]
    assert len(ids) == len(set(ids)) > 20
    assert charts(runs, "step") == over_steps  # the same run, the same bytes


def test_settings_as_a_user_reads_them() -> None:
    assert [shown(value) for value in (None, "", (), 0, False, 1.5, "x", ("a", "b"), {"é": 1})] == [
        *("–", "–", "–", "0", "false", "1.5", "x", '["a", "b"]', '{"é": 1}')
    ]


def test_a_failed_write_leaves_the_report_from_before(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from styletrainer.errors import TrainError

    folder = run(settings, steps=3)
    before = (folder / "report.html").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainError, match="No space left"):
        write_run_report(folder, config_from_dict(settings, "the test"), "again")
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".*.tmp"))


def test_a_sheet_is_its_picture() -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    sheet = sheet_of(picture, "alt", "caption")
    there = cv2.imdecode(np.frombuffer(base64.b64decode(sheet.uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(there[:, :, ::-1], picture) and (sheet.width, sheet.height) == (3, 2)


def test_a_template_that_lacks_a_value_is_an_error(tmp_path: Path) -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        write_page(tmp_path / "page.html", "report.html", title="x")
    assert not list(tmp_path.iterdir())


def test_stats_cut_short(tmp_path: Path) -> None:
    (tmp_path / STATS).write_text(json.dumps({"step": 1, "x": 2}) + '\n[]\n"text"\n{"x": 1}\n{"step": 2, "x"')
    assert read_stats(tmp_path) == [{"step": 1, "x": 2}]
