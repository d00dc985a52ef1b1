"""The kernels of the built fatbin on a GPU, against OpenCV and the CPU's smoother."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernel_cases import (
    CAMERAS,
    CLIPS,
    FITS,
    TOLERANCE,
    check_errors,
    fit_difference,
    nv12_difference,
    restore_difference,
    smooth_difference,
    yuyv_difference,
)
from pycuda_machine import PycudaMachine
from stylesdk.gpu import open_device

pytestmark = pytest.mark.gpu  # the pretend driver runs no kernel


@pytest.fixture
def machine() -> Iterator[PycudaMachine]:
    with PycudaMachine(open_device()) as machine:
        yield machine


@pytest.mark.parametrize(("source", "canvas"), FITS)
def test_fit_and_restore(machine: PycudaMachine, source: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert fit_difference(machine, source, canvas) <= TOLERANCE
    assert restore_difference(machine, source, canvas) <= TOLERANCE


@pytest.mark.parametrize("size", CAMERAS)
def test_colours(machine: PycudaMachine, size: tuple[int, int]) -> None:
    assert yuyv_difference(machine, size) <= TOLERANCE
    assert nv12_difference(machine, size) <= TOLERANCE


@pytest.mark.parametrize("size", [*CLIPS, (720, 1280)])
@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_smoothing(machine: PycudaMachine, size: tuple[int, int], amount: float) -> None:
    assert smooth_difference(machine, size, amount) <= TOLERANCE


def test_wrong_arguments_leave_the_device_usable(machine: PycudaMachine) -> None:
    check_errors(machine)
    assert fit_difference(machine, (97, 101), (64, 64)) <= TOLERANCE
