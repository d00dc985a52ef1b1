"""Streams from real servers, cut, stalled and restarted; files behind http."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from clips import make_clip, read_clip
from stream_servers import RtspServer, end, ffmpeg, free_port, mpegts_server

from stylesdk import Stylizer
from stylesdk.errors import SourceError, SourceLostError
from stylesdk.live import open_sink, open_source, run_pipeline, watchdog
from stylesdk.live.sources import Source, SourceFrame

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the servers need /proc and signals")


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        end(child)


@pytest.fixture
def opened(children: list[subprocess.Popen[bytes]]) -> Iterator[Callable[..., Source]]:
    """``open_source``, with what it opened closed before the servers end, and no thread left behind."""
    sources: list[Source] = []

    def open_one(text: str, **wish: float) -> Source:
        sources.append(open_source(text, **wish))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()
    for child in children:
        end(child)
    for thread in threading.enumerate():
        if thread.name.startswith("stylesdk "):
            thread.join(20)


def signals(frames: Iterable[SourceFrame], wanted: bool, count: int = 1) -> list[SourceFrame]:
    """Frames until ``count`` with the ``wanted`` signal came in a row."""
    seen: list[SourceFrame] = []
    end = time.monotonic() + 60
    for frame in frames:
        seen.append(frame)
        if len(seen) >= count and all(f.signal == wanted for f in seen[-count:]):
            return seen
        assert time.monotonic() < end
    raise AssertionError("the source ended")


def test_stream_that_is_cut_twice_goes_on_by_itself(
    opened: Callable[..., Source], children: list[subprocess.Popen[bytes]]
) -> None:
    port = free_port()
    children.append(mpegts_server(port))
    source = opened(f"tcp://127.0.0.1:{port}")
    assert source.description == f"tcp://127.0.0.1:{port}: 160x120, 25 frames/s, h264"
    assert (source.live, source.kind, source.fps) == (True, "stream", 25)
    frames = iter(source)
    seen = signals(frames, True, 5)
    for _ in range(2):
        end(children[-1])
        seen += signals(frames, False, 2)
        children.append(mpegts_server(port))
        back = time.monotonic()
        seen += signals(frames, True, 5)
        assert time.monotonic() - back < 15
    assert {frame.image.shape for frame in seen} == {(120, 160, 3)}
    times = [frame.pts or 0 for frame in seen]
    assert times == sorted(set(times))


def test_stream_that_stalls_shows_cards_and_goes_on(
    opened: Callable[..., Source], children: list[subprocess.Popen[bytes]]
) -> None:
    """The sender is stopped, not ended: nothing tells us but the time."""
    port = free_port()
    children.append(mpegts_server(port))
    frames = iter(opened(f"tcp://127.0.0.1:{port}"))
    signals(frames, True, 5)
    children[-1].send_signal(signal.SIGSTOP)
    signals(frames, False)
    end(children[-1])
    children.append(mpegts_server(port))
    signals(frames, True, 5)


def test_rtsp_that_is_cut_goes_on_and_keeps_the_password(
    opened: Callable[..., Source], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    server = RtspServer(tmp_path, port)
    try:
        source = opened(f"rtsp://me:secret@127.0.0.1:{port}/live?token=secret")
        frames = iter(source)
        signals(frames, True, 5)
        server.close()
        signals(frames, False, 2)
        server = RtspServer(tmp_path, port)
        signals(frames, True, 5)
        source.close()
    finally:
        server.close()
    assert source.description == f"rtsp://127.0.0.1:{port}/live: 160x120, 25 frames/s, h264"
    assert "is lost" in caplog.text
    assert "secret" not in caplog.text
    assert [line.split()[0] for line in server.asked[:4]] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


def test_udp(opened: Callable[..., Source], children: list[subprocess.Popen[bytes]]) -> None:
    port = free_port()
    codec = ("-c:v", "mpeg2video", "-f", "mpegts")
    children.append(ffmpeg(*codec, f"udp://127.0.0.1:{port}?pkt_size=1316"))
    source = opened(f"udp://127.0.0.1:{port}")
    frames = signals(source, True, 5)
    assert frames[-1].image.shape == (120, 160, 3)


def test_stream_joined_before_its_next_whole_picture(
    opened: Callable[..., Source], children: list[subprocess.Popen[bytes]]
) -> None:
    """One every six seconds: what cannot be decoded until then is no damage, and no reason to begin again."""
    port = free_port()
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "150", "-f", "mpegts")
    children.append(ffmpeg(*codec, f"udp://127.0.0.1:{port}?pkt_size=1316"))
    opened(f"udp://127.0.0.1:{port}").close()
    source = opened(f"udp://127.0.0.1:{port}")
    assert source.description.endswith("25 frames/s, h264")
    frames = signals(source, True, 5)
    assert all(frame.signal for frame in frames)
    assert frames[0].image.shape == (120, 160, 3)
    assert isinstance(source, watchdog.WatchedSource)
    assert source.damaged == 0


@pytest.mark.parametrize("scheme", ["tcp", "rtsp", "http"])
def test_nobody_there_is_an_error_without_the_password(scheme: str) -> None:
    port = free_port()
    with pytest.raises(
        SourceError, match=rf"(?s)got: {scheme}://127\.0\.0\.1:{port}/x: .*refused.*do this: "
    ) as caught:
        open_source(f"{scheme}://me:secret@127.0.0.1:{port}/x?token=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


class Web(BaseHTTPRequestHandler):
    """Files of the server's folder, cut short where the name says so, and streams without an end."""

    protocol_version = "HTTP/1.0"
    folder: Path
    parts: list[bytes]
    begun = 0.0  # when the playlist was first asked for

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        try:
            if self.path == "/live.m3u8":
                self.playlist()
            else:
                self.stream() if self.path == "/camera" else self.file()
        except ConnectionError:
            return  # it was closed while we sent

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=part")
        self.end_headers()
        for data in self.parts:
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(0.02)

    def playlist(self) -> None:
        """Two segments of a second, and after a pause of three two more, and so on: a live stream of HLS (RFC 8216)."""
        Web.begun = Web.begun or time.monotonic()
        count = 2 + 2 * int((time.monotonic() - Web.begun) / 3)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
        for number in range(min(count, 6)):
            lines += ["#EXTINF:1.0,", f"s{number}.ts"]
        data = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def file(self) -> None:
        path = self.folder / unquote(self.path.partition("?")[0]).strip("/").replace("cut-", "")
        if not path.exists():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if "cut-" in self.path else data)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Web, "folder", tmp_path, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(20)


def test_file_behind_http_gives_every_frame_and_ends(web: str, tmp_path: Path, opened: Callable[..., Source]) -> None:
    clip = make_clip(tmp_path / "a clip.mkv", times=range(30), base=Fraction(1, 25), last=1)
    source = opened(f"{web}/a%20clip.mkv?token=secret")
    assert (source.kind, source.live, source.name, source.fps) == ("video", False, "a clip", 25)
    assert source.description == f"the video {web}/a%20clip.mkv: 128x96, 25 frames/s, h264"
    here, there = list(open_source(str(clip))), list(source)
    assert [f.seconds for f in there] == [f.seconds for f in here]
    assert len(there) == 30
    for a, b in zip(there, here, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    source.close()
    source.close()


def test_file_behind_http_that_is_closed_early_ends(web: str, tmp_path: Path, opened: Callable[..., Source]) -> None:
    make_clip(tmp_path / "a.mkv", times=range(30), base=Fraction(1, 25), last=1)
    source = opened(f"{web}/a.mkv")
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    opened(f"{web}/a.mkv").close()


def test_file_that_is_cut_is_lost(web: str, tmp_path: Path, opened: Callable[..., Source]) -> None:
    make_clip(tmp_path / "a.mkv", times=range(200), base=Fraction(1, 25), last=1)
    seen: list[SourceFrame] = []
    with pytest.raises(SourceLostError, match=r"(?s)cut-a\.mkv: .*, after \d+ frames\n.*check the network") as caught:
        for frame in opened(f"{web}/cut-a.mkv?token=secret"):
            seen.append(frame)  # noqa: PERF402 - extend would lose them to the error
    assert 0 < len(seen) < 200
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("name", "got"), [("a.txt", "picture track"), ("none.mp4", "404"), ("a.jpg", "picture track")])
def test_what_is_no_video_behind_http(web: str, tmp_path: Path, name: str, got: str) -> None:
    (tmp_path / "a.txt").write_text("no video " * 1000)
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(SourceError, match=rf"(?s)got: {web}/{name}.*{got}"):
        open_source(f"{web}/{name}")


def test_hls_that_comes_in_bursts_stays_up_and_is_even(
    web: str, tmp_path: Path, opened: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Web, "begun", 0.0)
    line = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=6", "-g", "10"]
    line += ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-f", "segment", "-segment_time", "1"]
    subprocess.run([*line, str(tmp_path / "s%d.ts")], check=True, timeout=120)
    source = opened(f"{web}/live.m3u8")
    assert (source.live, source.kind) == (True, "stream")
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 45:  # of 60, over two pauses: longer than any other stream may be silent
            break
    assert all(frame.signal for frame in frames)
    # As they come in bursts, ten a second would all come at once; the newest would win, and two or three be seen.
    assert frames[14].captured - frames[0].captured > 0.9


def test_file_behind_http_that_begins_late_has_no_empty_lead(
    web: str, tmp_path: Path, opened: Callable[..., Source], stylizer: Stylizer
) -> None:
    make_clip(tmp_path / "a.mkv", times=range(10_000, 10_800, 40), base=Fraction(1, 1000), last=40)
    source = opened(f"{web}/a.mkv")
    assert source.kind == "video"
    run_pipeline(source, stylizer, open_sink(str(tmp_path / "out.mp4"), source))
    assert read_clip(tmp_path / "out.mp4").times == pytest.approx([i / 25 for i in range(20)], abs=1e-3)


def jpeg(value: int, size: tuple[int, int]) -> bytes:
    return cv2.imencode(".jpg", np.full((*size, 3), value, np.uint8))[1].tobytes()


def test_camera_behind_http_with_garbage_and_another_size(
    web: str, opened: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Motion JPEG: what is no JPEG is left out, another size passes through, the end is a loss."""
    small, large, broken = jpeg(80, (48, 64)), jpeg(160, (96, 64)), b"no jpeg"
    monkeypatch.setattr(Web, "parts", [small, small, broken] * 20 + [large] * 40, raising=False)
    source = opened(f"{web}/camera")
    assert (source.kind, source.live) == ("stream", True)
    seen = signals(source, False)
    assert {(f.image.shape, int(f.image[0, 0, 0])) for f in seen[:-1]} == {((48, 64, 3), 80), ((96, 64, 3), 160)}
    assert isinstance(source, watchdog.WatchedSource)
    assert source.damaged >= 20


def test_run_of_a_lost_stream_ends_with_code_3_and_a_whole_recording(
    children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    port = free_port()
    children.append(mpegts_server(port, "-t", "3"))
    url = f"tcp://127.0.0.1:{port}"
    line = [sys.executable, "-W", "error", "-m", "stylesdk.cli", "run", url, "-o", "out.mp4", "--give-up", "1"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False, env=os.environ)
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"{url}: 160x120, 25 frames/s, h264\n" in done.stdout
    assert "no frame for" in done.stderr and "Traceback" not in done.stderr
    clip = read_clip(tmp_path / "out.mp4")
    assert len(clip.times) > 5
    assert clip.size == (120, 160)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
