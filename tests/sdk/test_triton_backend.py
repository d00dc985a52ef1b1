"""The Triton client against a server in this process that loads the written repository. No Triton server runs here."""

import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from google.protobuf import text_format
from kserve_server import Server
from tritonclient.grpc import model_config_pb2

import stylesdk.backends.triton as module
from styleexport.triton_config import plan_config
from styleexport.triton_repository import triton_repository
from stylesdk import Stylizer
from stylesdk.backends.triton import TritonBackend
from stylesdk.errors import ClosedError, DeviceError, FrameError, MissingExtraError, ModelFileError, StyleError
from stylesdk.live.scene import render_frame
from stylesdk.manifest import KEY, Manifest
from stylesdk.styles import resolve
from tiny_models import painting_onnx

ROOT = Path(__file__).resolve().parents[2]
ONE, SIX, PAINT, PLAN = "starry_night_nano_onnx", "six_onnx", "paint_onnx", "paint_trt"
BLEND = {"wave": 0.7, "udnie": 0.3}


def invert(feeds):
    """Stands in for a plan of one frame."""
    assert feeds["strength"].shape == (1,)
    return 255 - feeds["frame"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    (folder / "paint.onnx").write_bytes(painting_onnx(("dark", "mid", "light"), 3))
    for model in (resolve("starry_night.nano"), resolve("six"), folder / "paint.onnx"):
        triton_repository(model, folder / "repository")
    plan = Manifest("paint", ("invert",), 8, "fp16", "Apache-2.0")
    sizes = {"min_size": (48, 64), "opt_size": (48, 64), "max_size": (48, 64)}
    (folder / "repository" / PLAN).mkdir()
    config = plan_config(PLAN, Manifest(**{**plan.__dict__, **sizes}), {"8.9": "model.plan"}, (48, 64))
    (folder / "repository" / PLAN / "config.pbtxt").write_text(config)
    return folder / "repository"


def left_in_memory(server):
    return [path for path in server.servicer.shared_files if os.path.exists(path)]


@pytest.fixture
def server(repository):
    """A fresh server; afterwards nothing that clients shared with it is left."""
    with Server(repository, {PLAN: invert}) as running:
        yield running
    assert left_in_memory(running) == []


def remote(server, model=ONE, **options):
    return Stylizer(backend=TritonBackend(server.url, model, **options))


@pytest.fixture(scope="module")
def local():
    with Stylizer("starry_night.nano", runtime="onnxruntime", device="cpu") as stylizer:
        yield stylizer


@pytest.fixture(scope="module")
def local_six():
    with Stylizer("six", runtime="onnxruntime", device="cpu") as stylizer:
        yield stylizer


# The same pictures


@pytest.mark.parametrize("shared_memory", [False, True], ids=["connection", "memory"])
def test_pictures_equal_the_local_ones(server, local, shared_memory):
    with remote(server, shared_memory=shared_memory) as stylizer:
        # Larger, smaller, and larger again: the region in shared memory grows, and is not left behind.
        for index, size in enumerate([(96, 128), (61, 83), (150, 201), (96, 128)]):
            frame = render_frame(index, 100, size)
            given = frame.copy()
            for strength in (1.0, 0.3, 0.0):
                assert np.array_equal(stylizer.run(frame, strength), local.run(frame, strength))
            assert np.array_equal(frame, given)


@pytest.mark.parametrize("shared_memory", [False, True], ids=["connection", "memory"])
def test_six_styles_and_a_blend_equal_the_local_ones(server, local_six, shared_memory):
    frame = render_frame(7, 100, (90, 122))
    with remote(server, SIX, shared_memory=shared_memory) as stylizer:
        assert stylizer.styles == local_six.styles
        looks = [None, "wave", "udnie", BLEND]
        pictures = [stylizer.run(frame, style=look) for look in looks]
        for picture, look in zip(pictures, looks, strict=True):
            assert np.array_equal(picture, local_six.run(frame, style=look))
        assert len({picture.tobytes() for picture in pictures}) == 4
        with pytest.raises(StyleError, match="mona_lisa"):
            stylizer.run(frame, style="mona_lisa")


@pytest.mark.parametrize("shared_memory", [False, True], ids=["connection", "memory"])
def test_a_result_is_the_callers_to_keep(server, shared_memory):
    with remote(server, PAINT, shared_memory=shared_memory) as stylizer:
        frame = np.zeros((40, 50, 3), np.uint8)
        first = stylizer.run(frame, style="dark")
        first[0, 0] = 7
        second = stylizer.run(frame, style="light")
        assert (first[0, 0].tolist(), first[1, 1].tolist()) == ([7] * 3, [40] * 3)
        assert np.unique(second).tolist() == [250]


def test_a_frame_as_opencv_slices_it(server, local):
    frame = render_frame(0, 100, (120, 160))[10:90, ::2]
    with remote(server, shared_memory=True) as stylizer:
        assert np.array_equal(stylizer.run(frame), local.run(frame))


def test_a_large_frame_goes_in_tiles(server, local, monkeypatch):
    frame = render_frame(0, 100, (500, 700))
    whole = local.run(frame)
    monkeypatch.setattr("stylesdk.tiles.TILE", 400)  # large enough to have tiles, small enough to be quick
    with remote(server, shared_memory=True) as stylizer:
        assert np.array_equal(stylizer.run(frame), whole)
        assert len(server.models[ONE].batches) > 1


# Several clients


def test_clients_share_batches_and_get_their_own_pictures(server, local_six):
    """Twelve requests wait; the server joins them, and each comes back with its own strength and mix."""
    model, count = server.models[SIX], 12
    frames = [render_frame(5 * index, 100, (64, 96)) for index in range(count)]
    names = local_six.styles
    looks = [{names[index % 6]: 0.6, names[(index + 2) % 6]: 0.4} for index in range(count)]
    strengths = np.linspace(0.2, 1, count)
    clients = [remote(server, SIX, shared_memory=index % 2 == 0) for index in range(count)]
    model.open.clear()
    with ThreadPoolExecutor(count) as pool:
        jobs = [
            pool.submit(client.run, frame, strength, look)
            for client, frame, strength, look in zip(clients, frames, strengths, looks, strict=True)
        ]
        while model.waiting.qsize() < count - 1:  # one is in the worker's hands
            threading.Event().wait(0.01)
        model.open.set()
        found = [job.result() for job in jobs]
    for client in clients:
        client.close()
    assert model.batches == [8, 4]
    for picture, frame, strength, look in zip(found, frames, strengths, looks, strict=True):
        assert np.array_equal(picture, local_six.run(frame, strength, look))


def test_frames_of_other_sizes_are_not_joined(server, local):
    sizes = [(64, 96), (48, 64), (64, 96), (80, 80)]
    clients = [remote(server) for _ in sizes]
    frames = [render_frame(0, 100, size) for size in sizes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: pair[0].run(pair[1]), zip(clients, frames, strict=True)))
    for client, picture, frame in zip(clients, found, frames, strict=True):
        client.close()
        assert np.array_equal(picture, local.run(frame))


# Plans


@pytest.mark.parametrize("shared_memory", [False, True], ids=["connection", "memory"])
def test_a_plan_gets_its_own_size(server, shared_memory):
    with remote(server, PLAN, shared_memory=shared_memory) as stylizer:
        frame = np.full((96, 128, 3), 55, np.uint8)  # twice the plan's size
        out = stylizer.run(frame)
        assert out.shape == frame.shape
        assert np.unique(out).tolist() == [200]


def test_a_frame_of_another_size_than_the_plans(server):
    backend = TritonBackend(server.url, PLAN)
    assert backend.canvas((720, 1280)) == (48, 64)
    with pytest.raises(FrameError, match=r"\(49, 64\)"):
        backend.infer(np.zeros((49, 64, 3), np.uint8), 1.0)
    assert backend.infer(np.zeros((48, 64, 3), np.uint8), 1.0).max() == 255
    backend.close()


# What goes wrong


def test_no_server():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=f"(?s)127.0.0.1:{port}.*gRPC port"):
            TritonBackend(f"127.0.0.1:{port}", ONE)


def test_models_that_are_not_ready(server):
    with pytest.raises(DeviceError, match="no model mona_lisa that is ready"):
        TritonBackend(server.url, "mona_lisa")
    server.servicer.loading.add(ONE)
    with pytest.raises(DeviceError, match=f"no model {ONE} that is ready"):
        TritonBackend(server.url, ONE)


def change_config(server, change):
    config = server.models[ONE].config
    changed = text_format.MessageToString(config)
    assert re.search(change[0], changed)
    config.CopyFrom(text_format.Parse(re.sub(*change, changed, count=1), model_config_pb2.ModelConfig()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((KEY, "other"), "without a stylesdk manifest"),
        ((r'string_value: ".*"', 'string_value: "{}"'), "manifest schema None"),
        (("TYPE_FP32", "TYPE_FP16"), "TYPE_FP16"),
        (("dims: 3", "dims: 4"), r"\[-1, -1, 4\]"),
        (('name: "styled"', 'name: "picture"'), "picture"),
        (("max_batch_size: 8", "max_batch_size: 0"), r"expected: .*\[1, -1, -1, 3\]"),
        ((r'\[\\"starry_night\\"\]', r'[\\"a\\",\\"b\\"]'), "expected: .*'style'"),
    ],
)
def test_models_that_are_not_in_the_frame_contract(server, change, message):
    change_config(server, change)
    with pytest.raises(ModelFileError, match=message):
        TritonBackend(server.url, ONE)


@pytest.mark.parametrize("shared_memory", [False, True], ids=["connection", "memory"])
def test_server_stopped_in_mid_stream(server, shared_memory):
    frame = render_frame(0, 100, (48, 64))
    stylizer = remote(server, shared_memory=shared_memory)
    styled = stylizer.stream([frame] * 3)
    assert next(styled).shape == frame.shape
    assert len(left_in_memory(server)) == shared_memory
    server.stop()
    with pytest.raises(DeviceError, match=f"(?s){server.url}, asked for a frame.*check that the server runs"):
        next(styled)
    stylizer.close()
    with pytest.raises(ClosedError):
        stylizer.run(frame)
    assert left_in_memory(server) == []


def test_a_refusal_of_the_server_is_told(server, frame):
    def full(feeds):
        raise RuntimeError("CUDA out of memory")

    server.models[ONE].run = full
    with remote(server) as stylizer, pytest.raises(DeviceError, match=r"(?s)CUDA out of memory.*read the server's log"):
        stylizer.run(frame)


def test_a_late_answer_does_not_land_on_the_next_frame(server, monkeypatch):
    """The first request times out; the server answers it after the second one has its own memory."""
    monkeypatch.setattr(module, "_TIMEOUT", 0.5)
    dark, light = (np.full((40, 50, 3), level, np.uint8) for level in (10, 200))
    model = server.models[PAINT]
    with remote(server, PAINT, shared_memory=True) as stylizer:
        model.open.clear()
        with pytest.raises(DeviceError, match="Deadline"):
            stylizer.run(dark, 0.0)
        assert left_in_memory(server) == []
        monkeypatch.setattr(module, "_TIMEOUT", 30)
        model.open.set()
        assert np.array_equal(stylizer.run(light, 0.0), light)
        assert len(set(server.servicer.shared_files)) == 2


@pytest.mark.parametrize("shared_memory", [False, True], ids=["connection", "memory"])
def test_a_result_of_another_size_is_refused(server, frame, shared_memory):
    server.models[ONE].run = lambda feeds: feeds["frame"].transpose(0, 2, 1, 3)
    with remote(server, shared_memory=shared_memory) as stylizer, pytest.raises(DeviceError, match="160, 120"):
        stylizer.run(frame)


def test_a_server_that_sees_no_shared_memory(server, frame):
    server.servicer.shares_memory = False
    with remote(server, shared_memory=True) as stylizer:
        with pytest.raises(DeviceError, match=r"(?s)Unable to open.*--ipc=host"):
            stylizer.run(frame)
        assert len(server.servicer.shared_files) == 1
        assert left_in_memory(server) == []
        server.servicer.shares_memory = True
        assert stylizer.run(frame).shape == frame.shape


def test_too_little_shared_memory(server, frame, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with remote(server, shared_memory=True) as stylizer, pytest.raises(DeviceError, match=r"1000 bytes.*left"):
        stylizer.run(frame)


def test_no_region_outlives_a_client(server, frame):
    for _ in range(3):
        with remote(server, shared_memory=True) as stylizer:
            stylizer.run(frame)
            assert len(server.servicer.regions) == 1
            assert len(left_in_memory(server)) == 1
        assert server.servicer.regions == {}
        assert left_in_memory(server) == []


def test_without_tritonclient(monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(MissingExtraError, match=r"stylesdk\[triton\]"):
        TritonBackend("localhost:8001", ONE)


def test_what_really_runs_is_named(server):
    with remote(server, shared_memory=True) as stylizer:
        assert stylizer.backend == f"Triton {ONE} ({server.url}, shared memory)"


# The example


def run_example(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / "triton_client.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("options", [[], ["--shared-memory"]], ids=["connection", "memory"])
def test_example(server, local_six, tmp_path, options):
    photo, styled = tmp_path / "photo.png", tmp_path / "styled.png"
    frame = render_frame(0, 100, (72, 96))
    cv2.imwrite(str(photo), frame)
    done = run_example(photo, styled, "--url", server.url, "--model", SIX, "--style", "wave", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 frames on Triton six_onnx")
    assert np.array_equal(cv2.imread(str(styled)), local_six.run(frame, style="wave"))


def test_example_tells_what_is_wrong(server, tmp_path):
    done = run_example("test", "null", "--url", server.url, "--model", "mona_lisa")
    assert done.returncode == 1
    assert done.stderr.startswith("got: no model mona_lisa")
