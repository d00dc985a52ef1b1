"""What a model file says of its training: every run that led to it, and nothing of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from model_files import Subject, all_subjects, subjects_of

from styleexport.export import training_record
from stylesdk import Manifest
from styletrainer.config import TrainConfig, config_from_run
from styletrainer.generators import build_generator
from styletrainer.run.checkpoint import save_checkpoint
from styletrainer.run.report import STATS


def run_folder(folder: Path, steps: int, **settings: object) -> Path:
    folder.mkdir()
    values = {
        "artworks": ("/home/me/wave.jpg",),
        "photos": "/home/me/photos",
        "run": str(folder),
        "batch": 3,
    } | settings
    config = TrainConfig(**values)  # type: ignore[arg-type]
    config.save(folder / "config.json")
    (folder / STATS).write_text(json.dumps({"step": steps, "total": 1.0}) + "\n", encoding="utf-8")
    return folder


def test_record_has_every_run_that_led_to_it(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "many", 100, styles=("wave", "udnie"), artworks=("a/wave.jpg", "a/udnie.jpg"))
    last = run_folder(tmp_path / "wave", 50, start=str(first))
    record = training_record(last, config_from_run(last))
    assert record["start"] == "many" and record["before"]["styles"] == ("wave", "udnie")
    assert record["before"]["result"] == {"step": 100, "total": 1.0} and "before" not in record["before"]
    assert str(tmp_path) not in json.dumps(record) and "/home/me" not in json.dumps(record)
    subject = Subject("wave", Path("wave.onnx"), "wave", Manifest("wave", ("wave",), 8, "fp32", "MIT", training=record))
    assert subject.images == 50 * 3 + 100 * 3 / 2, "half of the first run's photos were shown in another style"


def test_a_start_that_is_gone_or_the_run_itself_ends_the_record(tmp_path: Path) -> None:
    gone = run_folder(tmp_path / "gone", 5, start="runs/deleted")
    assert "before" not in training_record(gone, config_from_run(gone))
    itself = run_folder(tmp_path / "itself", 5, start=str(tmp_path / "itself"))
    assert "before" not in training_record(itself, config_from_run(itself))


def test_two_runs_of_one_name_are_two_files(tmp_path: Path) -> None:
    runs = []
    for place in ("mine", "others"):
        (tmp_path / place).mkdir()
        runs.append(run_folder(tmp_path / place / "wave", 5, generator_options={"size": "nano"}))
        save_checkpoint(runs[-1], {}, build_generator("realtime", {"size": "nano"}))
    mine, others = (path for run in runs for path in (subject.path for subject in subjects_of(str(run), tmp_path)))
    assert mine.read_bytes() != others.read_bytes(), "random weights each"
    with pytest.raises(typer.BadParameter, match="two models called wave; expected: each once"):
        all_subjects([str(run) for run in runs], [], tmp_path)
    both = all_subjects([str(runs[0])], [f"wave={runs[1]}"], tmp_path)
    assert [subject.label for subject in both] == ["wave", "wave (reference)"]
