"""`stylesdk serve` as a process: starts, styles with a bundled model, stops, and says what is wrong."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import numpy as np
import pytest
from served import PATIENCE, decoded, jpeg, receive, refused, send_frame
from typer.testing import CliRunner
from websockets.sync.client import connect

from stylesdk import SourceError, Stylizer
from stylesdk.web.cli import app

STYLE = "starry_night.nano"
STARTED = 120  # seconds until the model is loaded, on a busy machine


@dataclass
class Process:
    """A running server and its address."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        found = re.search(r":(\d+)/", self.url)
        assert found
        return int(found[1])


def command(*words: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "stylesdk.cli", "serve", "-s", STYLE, "--threads", "1", *words]


@contextmanager
def serving(*words: str) -> Iterator[Process]:
    process = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    watchdog = threading.Timer(STARTED, process.kill)
    watchdog.start()
    try:
        assert process.stdout
        printed = ""
        while not (found := re.search(r"https?://\S+", printed)):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield Process(process, found[0])
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def failing(*words: str) -> str:
    done = subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        timeout=STARTED,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a parent could send one process")
def test_styles_as_the_sdk_does_and_starts_again_on_the_same_port(frame: np.ndarray) -> None:
    sent = jpeg(frame)
    with Stylizer(STYLE, threads=1) as stylizer:
        wanted = stylizer.run(decoded(sent)).astype(float)
    with serving("--port", "0") as first:
        style_and_stop(first, sent, wanted, signal.SIGINT)
    with serving("--port", str(first.port)) as again:
        style_and_stop(again, sent, wanted, signal.SIGTERM)


def style_and_stop(server: Process, sent: bytes, wanted: np.ndarray, number: int) -> None:
    """Stopped while a client is there."""
    with connect(f"ws://localhost:{server.port}/ws", proxy=None, open_timeout=PATIENCE) as client:
        send_frame(client, 9, sent)
        answer, _, styled = receive(client, "frame")
        assert answer == 9
        assert np.abs(styled - wanted).mean() < 4  # a JPEG of quality 90 in between
        server.process.send_signal(number)
        assert refused(client)[0] == 1012
    assert server.process.wait(PATIENCE) == 130


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        error = failing("--port", str(other.getsockname()[1]), "-s", "no_such_style")
    assert "port" in error and "do this" in error
    assert "no_such_style" not in error, "the port comes first, the model is not looked at"


def test_https_with_a_token(tmp_path: Path, frame: np.ndarray) -> None:
    certificate, key = certificate_for(tmp_path)
    words = ["--port", "0", "--certificate", str(certificate), "--key", str(key), "--token", "a-token-of-mine"]
    with serving(*words) as server:
        assert server.url == f"https://localhost:{server.port}/?token=a-token-of-mine"
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=trusted, timeout=PATIENCE, follow_redirects=True) as client:
            answer = client.get(server.url)
            assert answer.status_code == 200 and str(answer.url) == f"https://localhost:{server.port}/"
            assert "Secure" in answer.history[0].headers["set-cookie"]
            cookie = f"stylesdk-{server.port}=a-token-of-mine"
            address = f"wss://localhost:{server.port}/ws"
            with connect(address, ssl=trusted, additional_headers={"Cookie": cookie}, proxy=None) as friend:
                send_frame(friend, 1, jpeg(frame))
                assert receive(friend, "frame")[0] == 1


def test_handshakes_that_never_end_give_way(tmp_path: Path) -> None:
    """A hundred connections that begin no TLS, or stop in its midst: there is room for one that does."""
    certificate, key = certificate_for(tmp_path)
    with serving("--port", "0", "--certificate", str(certificate), "--key", str(key)) as server, ExitStack() as stack:
        crowd = []
        for number in range(100):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            crowd.append(stack.enter_context(connection))
            connection.sendall(b"\x16\x03\x01\x02\x00\x01" if number % 2 else b"")
        trusted = ssl.create_default_context(cafile=str(certificate))
        for url, verify in ((server.url, trusted), (server.url.replace("https", "http"), True)):
            with ExitStack() as expected:
                if url.startswith("http:"):
                    expected.enter_context(pytest.raises(httpx.TransportError))
                assert httpx.get(url, verify=verify, timeout=PATIENCE).status_code == 200
        for connection in crowd[:30]:
            with suppress(ConnectionError):
                assert connection.recv(100) == b""


def certificate_for(folder: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))
    return files


def test_what_the_command_line_refuses(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    pem = str(tmp_path / "no.pem")
    for words, token, got in (
        (["--certificate", pem, "--key", pem], "", "--certificate"),
        (["--key", pem], "", "--certificate"),
        (["--certificate", str(tmp_path / "none.pem"), "--key", pem], "", "No such file"),
        (["--token", "short"], "", "token"),
        ([], "with spaces in it", "token"),
    ):
        result = CliRunner().invoke(app, ["--port", "0", *words], env={"STYLESDK_TOKEN": token or None})
        assert isinstance(result.exception, SourceError), (words, result.output)
        assert got in str(result.exception) and "do this" in str(result.exception)


def test_the_missing_extra_is_named() -> None:
    block = "import sys; sys.modules['uvicorn'] = None; from stylesdk.cli import main; main()"
    words = [sys.executable, "-c", block, "serve", "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=STARTED, check=False)
    assert done.returncode == 1 and "stylesdk[web]" in done.stderr
