"""What a model file says of its training: every run that led to it, and nothing of the machine."""

from __future__ import annotations

import json
from pathlib import Path

from model_files import Subject

from styleexport.export import training_record
from stylesdk import Manifest
from styletrainer.config import TrainConfig, config_from_run
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
