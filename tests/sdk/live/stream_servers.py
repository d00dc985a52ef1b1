"""Servers of real video for the tests of network streams: FFmpeg, and an RTSP server around it."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from pathlib import Path

from installed import require

PICTURE = ("-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ffmpeg(*words: str | Path) -> subprocess.Popen[bytes]:
    require("ffmpeg")
    line = ["ffmpeg", "-nostdin", "-loglevel", "error", *PICTURE, "-threads", "1", *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def mpegts_server(port: int, *words: str) -> subprocess.Popen[bytes]:
    """One client, H.264 with a whole picture a second; returns when it listens."""
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25")
    child = ffmpeg(*codec, *words, "-f", "mpegts", f"tcp://127.0.0.1:{port}?listen=1")
    wait_for_listener(port, child)
    return child


def wait_for_listener(port: int, child: subprocess.Popen[bytes]) -> None:
    """By asking the system, as a connection would be the one client."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    end = time.monotonic() + 30
    while wanted not in Path("/proc/net/tcp").read_text():
        assert child.poll() is None, "ffmpeg ended"
        assert time.monotonic() < end, "ffmpeg does not listen"
        time.sleep(0.01)


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait(30)


class RtspServer:
    """H.264 over RTP in the RTSP connection (RFC 2326), for one client after the other."""

    def __init__(self, folder: Path, port: int) -> None:
        self.asked: list[str] = []
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind(("127.0.0.1", 0))
        self._rtp.settimeout(0.1)
        sdp = folder / "session.sdp"
        sdp.unlink(missing_ok=True)
        codec = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "12")
        to = f"rtp://127.0.0.1:{self._rtp.getsockname()[1]}"
        self._child = ffmpeg(*codec, "-flags", "global_header", "-f", "rtp", to, "-sdp_file", sdp)
        while not (sdp.exists() and "a=fmtp" in sdp.read_text()):
            assert self._child.poll() is None, "ffmpeg ended"
            time.sleep(0.01)
        lines = [line for line in sdp.read_text().splitlines() if not line.startswith(("SDP:", "m=", "c="))]
        lines.insert(3, "c=IN IP4 0.0.0.0")
        at = next(i for i, line in enumerate(lines) if line.startswith("a=rtpmap"))
        lines[at:at] = ["m=video 0 RTP/AVP 96", "a=control:track0"]
        self._sdp = "\r\n".join(lines) + "\r\n"
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self._listener.close()
        self._rtp.close()
        end(self._child)

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client:
                try:
                    self._talk(client)
                except OSError:
                    continue  # the client went away

    def _talk(self, client: socket.socket) -> None:
        client.settimeout(10)
        with client.makefile("rb") as requests:
            while not self._stop.is_set():
                request = [line.decode().strip() for line in iter(requests.readline, b"\r\n") if line]
                if not request:
                    return
                method, url, _ = request[0].split()
                self.asked.append(request[0])
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in request[1:])}
                client.sendall(self._answer(method, url, headers).encode())
                if method == "PLAY":
                    self._play(client)

    def _answer(self, method: str, url: str, headers: dict[str, str]) -> str:
        body, extra = "", "Session: 1\r\n"
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = self._sdp
            extra = f"Content-Type: application/sdp\r\nContent-Base: {url}/\r\n"
        elif method == "SETUP":
            if "TCP" not in headers["transport"]:
                return f"RTSP/1.0 461 Unsupported Transport\r\nCSeq: {headers['cseq']}\r\n\r\n"
            extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        size = f"Content-Length: {len(body)}\r\n" if body else ""
        return f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{extra}{size}\r\n{body}"

    def _play(self, client: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                packet = self._rtp.recv(65536)
            except TimeoutError:
                continue
            client.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
