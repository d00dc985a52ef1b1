"""benchmarks/serve.py from end to end, for a moment."""

from __future__ import annotations

import json
from pathlib import Path

import serve


def test_serve(tmp_path: Path) -> None:
    output = tmp_path / "serve.json"
    serve.main("starry_night.nano", "160x120", most=10, rounds=1, seconds=1, threads=1, output=output)
    report = json.loads(output.read_text(encoding="utf-8"))
    assert report["command"] and report["machine"]["cores"]
    for turn in ("alone", "attacked"):
        found = report[turn]
        assert 0 < found["fps"] <= 20 and 0 < found["p50"] <= found["p90"] <= found["p99"], turn
    assert report["attempts"].keys() == set(serve.KINDS) and min(report["attempts"].values()) > 0
    (requirement,) = report["requirements"]
    assert requirement["found"] == report["attacked"]["fps"] / report["alone"]["fps"]
