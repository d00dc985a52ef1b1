"""`stylesdk serve`: page, looks and frames over a real WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from served import Served, decoded, jpeg, receive, send_frame, served


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


def test_frames_come_back_in_style(server: Served, frame: np.ndarray) -> None:
    sent = jpeg(frame)
    with server.websocket() as client:
        for number in (7, 4_000_000_000):
            send_frame(client, number, sent)
            answer, milliseconds, styled = receive(client, "frame")
            assert answer == number
            assert 0 < milliseconds < 20_000
            error = styled.astype(float) - (255 - decoded(sent).astype(float))
            assert np.abs(error).mean() < 3
