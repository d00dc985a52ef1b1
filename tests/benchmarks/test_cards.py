"""The model cards: commands that lead to the files beside them, figures of files that are shipped, nothing stale."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import cards
import pytest
from typer.testing import CliRunner

from stylesdk.styles import Style, styles
from styletrainer.cli import app

FILES = styles()
CARDS = sorted(FILES[0].path.parent.glob("*.md"))
# Where a record and its command differ, as both have to: time or steps, and what the machine decides.
OF_THE_MACHINE = {"steps", "precision"}


def lines_of(text: str) -> list[list[str]]:
    """The words of every command of a card, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def values_of(words: list[str], option: str) -> list[str]:
    return [value for key, value in pairwise(words) if key == option]


def runs_of(text: str) -> dict[str, list[str]]:
    """The words of every training command, by the folder that it fills."""
    return {values_of(words, "-o")[0]: words for words in lines_of(text) if words[:2] == ["stylesdk", "train"]}


def settings_of(words: list[str]) -> dict[str, Any]:
    """What a training command asks for, resolved by the trainer itself."""
    told = CliRunner().invoke(app, [*words[2:], "--dry-run"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    found: dict[str, Any] = json.loads(told.output)
    return found


def card_of(file: Style) -> str:
    return file.path.with_name(f"{file.name.split('.')[0]}.md").read_text(encoding="utf-8")


def test_committed_cards_are_those_of_the_files_and_figures_beside_them() -> None:
    written = cards.cards()
    assert sorted(written) == CARDS
    for path, text in written.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: run `python benchmarks/cards.py`"


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_run_begins_with_one_that_was_made_before_it(path: Path) -> None:
    made: list[str] = []
    for words in lines_of(path.read_text(encoding="utf-8")):
        if words[0] == "cp":
            assert words[-2] in made
            made.append(words[-1])
        elif words[:2] == ["stylesdk", "train"]:
            assert set(values_of(words, "--start")) <= set(made)
            made += values_of(words, "-o")
        elif words[:2] == ["stylesdk", "export"]:
            assert words[2] in made
    assert len(set(made)) == len(made)


def test_a_run_is_the_same_in_every_card() -> None:
    found: dict[str, list[str]] = {}
    for path in CARDS:
        for run, words in runs_of(path.read_text(encoding="utf-8")).items():
            assert found.setdefault(run, words) == words, path


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_exports_write_the_files_of_the_table(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\S+)` \| (fp32|fp16|int8) \|", text, re.MULTILINE)
    written = []
    for words in lines_of(text):
        if words[:2] == ["stylesdk", "export"] and values_of(words, "-o") == ["models"]:
            run = settings_of(runs_of(text)[words[2]])
            usual = Path(words[2]).name if run["styles"] else Path(run["artworks"][0]).stem
            [name] = values_of(words, "--name") or [usual]
            precisions = values_of(words, "--precision")
            written += [(name if each == "fp32" else f"{name}.{each}", each) for each in precisions]
    assert sorted(written) == sorted(table)
    assert {name for name, _ in table} == {f.name for f in FILES if f.name.split(".")[0] == path.stem}


@pytest.mark.parametrize("file", [f for f in FILES if f.manifest.precision == "fp32"], ids=lambda file: file.name)
def test_commands_ask_for_what_the_file_says_of_its_training(file: Style) -> None:
    """Run by run, back from the last: the record says with which one it began, the command by which name."""
    runs, run, record = runs_of(card_of(file)), f"runs/{file.name}", file.manifest.training
    while record:
        asked = settings_of(runs[run])
        assert [Path(folder).name for folder in asked["pictures"]] == record["pictures"]
        for key in record.keys() & asked.keys() - OF_THE_MACHINE - {"pictures", "start"}:
            assert asked[key] == record[key], (run, key)
        assert asked["minutes"] or asked["steps"] == record["result"]["step"]
        run, record = asked["start"], record.get("before", {})
    assert run is None


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_latency_is_that_of_shipped_files_and_names_its_processor(path: Path) -> None:
    text, report = path.read_text(encoding="utf-8"), cards.results("latency")
    assert f" of {report['machine']['processor']}" in text
    files = {(f.name, f.manifest.precision) for f in FILES if f.name.split(".")[0] == path.stem}
    shipped = {(name.split(".")[1] if ".nano" in name or ".base" in name else "", kind) for name, kind in files}
    rows = re.findall(r"^\| (six|nano|small|base), (\w+) file on (\w+)(.*?) \|.* ms \|", text, re.MULTILINE)
    assert {(size if size in ("nano", "base") else "", kind) for size, kind, _, _ in rows} == shipped
    assert {runtime for _, _, runtime, _ in rows} == {"onnxruntime", "openvino"}
    tails = {tail for *_, tail in rows}
    assert (", another style every frame" in tails) == (path.stem == "six")
    assert (", at 1920x1080" in tails) == (("nano", "int8") in shipped)


def test_what_is_missed_is_told_of_every_figure_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {
        "wave.int8: grid": 0.06,
        "wave.nano int8 openvino, at 1920x1080: frames/s": 20.0,
        "wave: border": 0.5,
        "udnie: grid": 0.06,
    }
    lines = [{"what": what, "found": found, "at_most": 0.055, "at_least": 0.0} for what, found in asked.items()]
    lines[1] |= {"at_most": None, "at_least": 30.0}
    lines[2] |= {"at_most": 1.25}
    monkeypatch.setattr(cards, "results", lambda name: {"requirements": lines if name == "quality" else []})
    assert cards.missed({"wave", "wave.nano"}) == [
        "- missed wave.int8: grid: 0.06, at most 0.055.",
        "- missed wave.nano int8 openvino, at 1920x1080: frames/s: 20, at least 30.",
    ]
