"""`stylesdk serve`."""

from __future__ import annotations

import ssl
import string
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stylesdk.cli import Device, KeepColor, Runtime, Smoothing, Strength, Style, Threads
from stylesdk.errors import MissingExtraError, SourceError
from stylesdk.interrupts import stop_on_signals
from stylesdk.live.memory import keep_memory_flat
from stylesdk.live.styling import Look
from stylesdk.stylizer import Stylizer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_TOKEN = frozenset(string.ascii_letters + string.digits + "-_.~")  # what needs no quoting in an address
_TOKENS = "8 letters, digits, - _ . ~ or more"


@app.command()
def serve(
    style: Style = "six",
    strength: Strength = 1.0,
    keep_color: KeepColor = False,
    smoothing: Smoothing = 0.0,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every one, with a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="STYLESDK_TOKEN", help="What clients must know; made up where one is needed.")
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=64, help="Places.")] = 4,
    device: Device = "auto",
    runtime: Runtime = None,
    threads: Threads = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM file, for https; with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's private key.")] = None,
    static: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a page that needs no server to this folder, and end.")
    ] = None,
    onnxruntime_web: Annotated[
        Path | None, typer.Option(help="Its npm package, folder or .tgz, for --static where there is no network.")
    ] = None,
) -> None:
    """Serve a page that styles the browser's camera or a video. Nothing is stored, nothing leaves this machine."""
    look = Look(strength, keep_color, smoothing)
    if static is not None:
        from stylesdk.web.static import write_static_page

        index = write_static_page(static, model=style, look=look, onnxruntime_web=onnxruntime_web)
        done = f"{index}: open it, or put its folder on any web host."
        Console(soft_wrap=True, highlight=False).print(done, markup=False)
        return
    try:
        from stylesdk.web import app as web
        from stylesdk.web import server
        from stylesdk.web.limits import Limits
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stylesdk"):
            raise
        raise MissingExtraError(error.name or "starlette", "web", "`stylesdk serve`") from error
    _check_token(token)
    pair = server.Certificate(certificate, key) if certificate and key else None
    _check_certificate(certificate, key)
    listening = server.bound(host, port)
    door = server.door_for(listening, host, token, pair is not None)
    limits = Limits(clients=clients)
    keep_memory_flat()
    with listening, stop_on_signals() as stop:
        with Stylizer(style, device=device, runtime=runtime, threads=threads) as stylizer:
            application = web.create_app(stylizer, door, limits, look=look)
            _greet(door.urls, f"{stylizer.backend}, {clients} places", bare=not door.loopback and pair is None)
            server.serve(application, listening, limits, stop, pair)
        interrupted = stop.is_set()
    if interrupted:
        raise KeyboardInterrupt


def _greet(urls: list[str], what: str, *, bare: bool) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{what}\nOpen {' or '.join(urls)}\nCtrl-C ends it.", markup=False)
    if bare:
        console.print("Browsers give a page the camera on localhost or over https only: see --certificate.")


def _check_token(token: str | None) -> None:
    good = token is None or (len(token) >= 8 and not set(token) - _TOKEN)
    if not good:
        raise SourceError("a token that is too short or has odd characters", expected=_TOKENS, do="leave --token out")


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    if certificate is None and key is None:
        return
    try:
        if certificate is None or key is None:
            raise ValueError("one of the two files")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"--certificate {certificate} --key {key}: {error}",
            expected="a certificate and its private key, two PEM files",
            do="make a pair for this machine, for example with mkcert",
        ) from error
