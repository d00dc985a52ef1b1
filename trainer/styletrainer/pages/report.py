"""What a run, or several, look like as one HTML file: no scripts, no other file, dark and light, everything escaped."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from styletrainer.config import TrainConfig
from styletrainer.data.crops import Picture, read_picture
from styletrainer.run.checkpoint import write_atomically
from styletrainer.run.report import STATS

# A run's pace and its clock are no losses.
NO_LOSSES = {"step", "seconds", "images_per_second", "skipped_photos"}
_INK = "#010203"  # stands for the page's own text colour, which matplotlib has no name for
Line = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Sheet:
    """A picture that is part of the page."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int


def sheet_of(picture: Picture, alt: str, caption: str) -> Sheet:
    """RGB uint8 (H, W, 3) as a PNG inside the page."""
    ok, png = cv2.imencode(".png", picture[:, :, ::-1])
    assert ok, "a picture in memory encodes"
    uri = "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")
    return Sheet(uri, alt, caption, picture.shape[1], picture.shape[0])


def read_stats(run: Path) -> list[dict[str, float]]:
    """The ticks of a run, in order; a line cut short by a kill is left out. Raises OSError where there are none."""
    found: list[dict[str, float]] = []
    for line in (run / STATS).read_text(encoding="utf-8").splitlines():
        try:
            tick = json.loads(line)
        except ValueError:
            continue
        if isinstance(tick, dict) and isinstance(tick.get("step"), (int, float)):
            found.append(tick)
    return found


def charts(runs: Mapping[str, list[dict[str, float]]], over: str) -> list[Markup]:
    """A chart a loss, a line a run, over ``step`` or ``seconds``; runs without them are left out."""
    names = dict.fromkeys(name for ticks in runs.values() for tick in ticks for name in tick if name not in NO_LOSSES)
    found: list[Markup] = []
    for name in names:
        kept = {run: [tick for tick in ticks if name in tick and over in tick] for run, ticks in runs.items()}
        scale = 60 if over == "seconds" else 1
        lines = {
            run: ([tick[over] / scale for tick in ticks], [tick[name] for tick in ticks])
            for run, ticks in kept.items()
            if ticks
        }
        if lines:
            found.append(_chart(name, "minutes" if over == "seconds" else "steps", lines, f"{over}-{len(found)}"))
    return found


def _chart(title: str, along: str, lines: Mapping[str, Line], key: str) -> Markup:
    """Lines as SVG to stand in a page; ``key`` makes its ids the page's only ones of these names."""
    look: Any = {"svg.fonttype": "none", "svg.hashsalt": key, "font.size": 9, "text.parse_math": False}
    look |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK)
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(4.2, 2.6), layout="constrained")
        axes = figure.subplots()
        for run, (x, y) in lines.items():
            # matplotlib leaves names that begin with _ out of the legend: a space of no width before them.
            axes.plot(x, y, marker="." if len(x) < 3 else "", linewidth=1.2, label=f"\u200b{run}")
        axes.set_title(title)
        axes.set_xlabel(along)
        axes.grid(alpha=0.25)
        if len(lines) > 1:
            axes.legend(framealpha=0, fontsize=8)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True)
    ends = "; ".join(f"{run}: from {y[0]:.3g} to {y[-1]:.3g}" for run, (_, y) in lines.items())
    return _inline(file.getvalue(), key, f"{title} over {along}. {ends}")


def _inline(svg: str, key: str, label: str) -> Markup:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would count for the whole page
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{key}-", svg)
    svg = svg.replace(_INK, "currentColor")
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))  # noqa: S704 - escaped


def settings_rows(config: TrainConfig) -> list[tuple[str, str]]:
    """Every setting and its value as text."""
    return [(entry.name, shown(getattr(config, entry.name))) for entry in dataclasses.fields(config)]


def shown(value: Any) -> str:
    """A setting as a user reads it."""
    if value is None or value in ("", (), {}):
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill a template of ``pages`` and write it, whole or not at all."""
    pages = Environment(
        loader=PackageLoader("styletrainer", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = pages.get_template(template).render(content)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_run_report(run: Path, config: TrainConfig, ended: str) -> None:
    """``report.html`` in the run's folder: how it ended, first and last samples, losses, settings."""
    ticks = read_stats(run)
    # A file without a number, such as a samples-best.png that somebody keeps there, is none of a tick's.
    paths = {int(step): path for path in run.glob("samples-*.png") if (step := path.stem[8:]).isdecimal()}
    steps = sorted(paths)
    sheets = []
    for number in dict.fromkeys([*steps[-1:], *steps[:1]]):
        picture = read_picture(paths[number])
        if picture is not None:
            alt = f"Photos, and below them the artwork with the photos in its style, at step {number}"
            sheets.append(sheet_of(picture, alt, f"Step {number}"))
    write_page(
        run / "report.html",
        "report.html",
        title=f"Training report of {run.resolve().name}",
        ended=ended,
        sheets=sheets,
        charts=charts({run.name: ticks}, "step"),
        figures=list(ticks[-1].items()) if ticks else [],
        settings=settings_rows(config),
    )
