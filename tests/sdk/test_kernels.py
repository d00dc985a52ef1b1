"""The CUDA kernels' own code, compiled for the host, against OpenCV; their loader on the pretend CUDA driver."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from host_kernels import Host, cmake
from pretend_cuda import ROOT, live, run_on_pretend_gpu

from kernel_cases import (
    CAMERAS,
    CLIPS,
    FITS,
    TOLERANCE,
    Smoothers,
    check_errors,
    fit_difference,
    largest,
    moving_clip,
    nv12_difference,
    restore_difference,
    smooth_difference,
    yuyv_difference,
)
from stylesdk.errors import DeviceError
from stylesdk.gpu.kernels import load_kernels
from stylesdk.gpu.kernels.launch import SIGNATURES

SOURCES = ROOT / "sdk" / "stylesdk" / "gpu" / "kernels"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not any(map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++", "cl"))):
        pytest.skip("needs a C++ compiler")
    folder = tmp_path_factory.mktemp("kernels")
    cmake(folder, "stylesdk_kernels_host", STYLESDK_CUDA="OFF")
    return next(path for path in folder.rglob("*stylesdk_kernels_host*") if path.suffix in (".so", ".dylib", ".dll"))


@pytest.fixture
def host(library: Path) -> Host:
    return Host(library)


@pytest.fixture(scope="module")
def fatbin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("nvcc"):
        pytest.skip("needs nvcc")
    folder = tmp_path_factory.mktemp("fatbin")
    cmake(folder, "stylesdk_fatbin", STYLESDK_CUDA="ON", STYLESDK_FATBIN=folder / "kernels.fatbin")
    return folder / "kernels.fatbin"


@pytest.mark.parametrize(("source", "canvas"), FITS)
def test_fit_and_restore_are_those_of_the_cpu(host: Host, source: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert fit_difference(host, source, canvas) <= TOLERANCE
    assert restore_difference(host, source, canvas) <= TOLERANCE


def test_fit_and_restore_at_random_sizes(host: Host) -> None:
    random = np.random.default_rng(0)
    for _ in range(150):
        source, canvas = (tuple(map(int, random.integers(1, 130, 2))) for _ in range(2))
        assert fit_difference(host, source, canvas) <= TOLERANCE, (source, canvas)
        assert restore_difference(host, source, canvas) <= TOLERANCE, (source, canvas)


@pytest.mark.parametrize("size", CAMERAS)
def test_colours_are_those_of_opencv(host: Host, size: tuple[int, int]) -> None:
    assert yuyv_difference(host, size) <= TOLERANCE
    assert nv12_difference(host, size) <= TOLERANCE


def test_every_yuv_is_that_of_opencv(host: Host) -> None:
    """All of Y and U, for every fifth V: 256 x 256 x 52."""
    import cv2

    y, u, v = np.meshgrid(np.arange(256), np.arange(256), np.arange(0, 256, 5), indexing="ij")
    yuyv = np.stack([y, u, y, v], -1).astype(np.uint8).reshape(512, -1, 2)
    size = (yuyv.shape[0], yuyv.shape[1])
    out = host.put(np.zeros((*size, 3), np.uint8))
    host.kernels.bgr_from_yuyv(host.put(yuyv), out, size, None)
    assert largest(host.get(out, (*size, 3)), cv2.cvtColor(yuyv, cv2.COLOR_YUV2BGR_YUY2)) <= TOLERANCE


@pytest.mark.parametrize("size", CLIPS)
@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_smoothing_is_that_of_the_cpu(host: Host, size: tuple[int, int], amount: float) -> None:
    assert smooth_difference(host, size, amount) <= TOLERANCE


def test_smoothing_follows_amount_and_reset(host: Host) -> None:
    """0 and ``reset`` forget the past, a cut starts anew, and a frame in between is neither photo's nor style's."""
    both = Smoothers(host, (60, 80))
    blended = 0
    for index, (photo, styled) in enumerate(moving_clip((60, 80))):
        if index == 7:
            both.reset()
        out, expected = both.next(photo, styled, (0.0 if index in (4, 15) else 0.8))
        assert largest(out, expected) <= TOLERANCE
        if index in (0, 4, 5, 7, 10, 15, 16):  # first, off and after it, reset, the cut
            np.testing.assert_array_equal(out, styled)
        blended += largest(out, styled) > 10
    assert blended >= 10, "the smoothing smoothed nothing"


def test_smoothing_may_write_into_the_styled_frame(host: Host) -> None:
    apart, in_place = Smoothers(host, (60, 80)), Smoothers(host, (60, 80))
    for photo, styled in moving_clip((60, 80)):
        out, _ = apart.next(photo, styled, 0.5)
        address = host.put(styled)
        in_place.device.smooth(host.put(photo), address, address, (60, 80), 0.5, None)
        np.testing.assert_array_equal(host.get(address, styled.shape), out)


def test_wrong_arguments_are_refused_before_a_launch(host: Host) -> None:
    said = check_errors(host)
    expected = [
        "one address for both",
        "address 0",
        r"part of \(9, 8\) in a canvas of \(8, 8\)",
        r"image of \(0, 8\)",
        "1 to 32767",
        r"part of \(8, 9\) in a canvas",
        "even width",
        "even size",
        "one address for both",
        "smoothing 1.1",
        "smoothing nan",
        r"at most \(8, 8\)",
        "address 0",
        "aligned to 256",
        r"image of \(8, -1\)",
    ]
    for message, words in zip(said, expected, strict=True):
        assert re.search(words, message) and "expected:" in message, message
    assert host.launches == []


def test_signatures_are_those_of_the_compiled_kernels(tmp_path: Path) -> None:
    """Python's argument types against the parameters in what nvcc makes of kernels.cu."""
    if not shutil.which("nvcc"):
        pytest.skip("needs nvcc")
    ptx = tmp_path / "kernels.ptx"
    subprocess.run(["nvcc", "-ptx", "-std=c++17", "-arch=compute_75", "-o", ptx, SOURCES / "kernels.cu"], check=True)
    letters = {"u64": "P", "u32": "i", "f32": "f"}
    found = {
        name: "".join(letters[kind] for kind in re.findall(r"\.param \.(\w+)", parameters))
        for name, parameters in re.findall(r"\.entry (\w+)\((.*?)\)", ptx.read_text(), re.S)
    }
    assert found == SIGNATURES


def test_the_built_fatbin_loads_and_launches(fatbin: Path) -> None:
    done = run_on_pretend_gpu(
        """
        import os, pathlib, sys
        sys.path.insert(0, os.environ["TESTS"])
        from kernel_cases import Smoothers, check_errors, fit_difference, moving_clip, nv12_difference
        from kernel_cases import restore_difference, yuyv_difference
        from pycuda_machine import PycudaMachine
        from stylesdk.gpu import open_device

        def use(machine):
            for size in ((480, 640), (96, 128)):
                fit_difference(machine, size, (240, 320))
                restore_difference(machine, size, (240, 320))
            yuyv_difference(machine, (48, 64))
            nv12_difference(machine, (48, 64))
            both = Smoothers(machine, (48, 64))
            for photo, styled in moving_clip((48, 64), 3):
                both.next(photo, styled, 0.5)
            assert len(check_errors(machine)) == 15

        with PycudaMachine(open_device(), pathlib.Path(os.environ["FATBIN"])) as machine:
            use(machine)
        """,
        FAKECUDA_LOG="1",
        FATBIN=str(fatbin),
        TESTS=str(ROOT / "tests"),
    )
    log = done.stderr
    assert log.count("[fakecuda] cuLaunchKernel -> 0") == 2 * 2 + 2 + 3 * 5
    assert log.count("[fakecuda] cuModuleGetFunction -> 0") == len(SIGNATURES)
    assert log.count("[fakecuda] cuModuleLoadDataEx -> 0") == log.count("[fakecuda] cuModuleUnload -> 0") == 1
    assert live(log) == {"device": 0, "pinned": 0, "streams": 0, "events": 0}


class Refusing:
    """A ``pycuda.driver`` whose driver takes no module."""

    class Error(Exception):
        pass

    def module_from_buffer(self, code: bytes) -> None:
        raise self.Error(f"no kernel image is available ({len(code)} bytes)")


def test_without_a_fatbin_there_are_no_kernels(tmp_path: Path) -> None:
    assert load_kernels(Refusing(), tmp_path / "kernels.fatbin") is None


def test_a_fatbin_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kernels.fatbin").write_bytes(b"1234567")
    with pytest.raises(DeviceError, match=r"kernels.fatbin, which the driver refuses: .*7 bytes"):
        load_kernels(Refusing(), tmp_path / "kernels.fatbin")
    with pytest.raises(DeviceError, match="can be read"):
        load_kernels(Refusing(), tmp_path)
