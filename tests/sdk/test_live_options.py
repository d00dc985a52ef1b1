"""What `run` and `webcam` ask of their source, as a user types it."""

from __future__ import annotations

import re
import sys

import pytest

from stylesdk.cli import main


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "0", "--size", "big"), 2, "expected WIDTHxHEIGHT such as 1280x720"),
        (("run", "screen", "--fps", "0"), 2, "--fps"),
        (("run", "test:1", "--give-up", "-1"), 2, "--give-up"),
        (("run", "test:1", "-o", "null", "--size", "64x48"), 1, "a size of 64x48 for 'test:1'"),
        (("run", "demo", "-o", "null", "--fps", "12.5"), 1, "12.5 frames/s for 'demo'"),
        (("run", "gopher://nowhere"), 1, "a stream (rtsp:// http:// https:// tcp:// udp://)"),
        (("webcam", "--camera", "nobody"), 1, "camera:nobody"),
        (("webcam", "--camera", "63@1280x720"), 1, "camera 63, which cannot be opened"),
        (("webcam", "--camera", "0@0x0"), 1, "camera '0@0x0'"),
        (("webcam", "--size", "0x9"), 2, "1280x720"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["stylesdk", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    said = capsys.readouterr().err
    assert message in re.sub(r"\s+", " ", said.replace("│", "")), said


def test_run_says_what_it_opened(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["stylesdk", "run", "test:64x48:2", "-o", "null"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "test pattern" in capsys.readouterr().out.splitlines()[0]
