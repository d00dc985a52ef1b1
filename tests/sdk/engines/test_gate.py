"""The accuracy gate against plans whose differences are known."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from pretend_machine import inverting_onnx

from stylesdk.backends.fake import FakeBackend
from stylesdk.engines.gate import TOLERANCES, check_accuracy, scene
from stylesdk.engines.lock import Cancelled
from stylesdk.errors import DeviceError
from stylesdk.onnx_file import manifest_from_onnx

SIZE = (48, 64)
THREE = ("invert", "dark", "light")


class Plan(FakeBackend):
    """A plan that is right but for ``wrong(styled, strength, style)``."""

    def __init__(self, styles=("invert",), precision="fp16", wrong=None):
        super().__init__(SIZE, styles)
        self.manifest = replace(self.manifest, precision=precision)
        self.asked, self.wrong = [], wrong

    def infer(self, frame, strength, style=None):
        styled = super().infer(frame, strength, style)
        self.asked.append((frame, strength, style))
        return self.wrong(styled, strength, style) if self.wrong else styled


def check(plan, photos=()):
    data = inverting_onnx(plan.manifest.styles)
    return check_accuracy(plan, data, manifest_from_onnx(data, "it"), photos, threading.Event())


def off_by(steps, share=1.0):
    def wrong(styled, *_):
        styled = styled.astype(int)
        count = int(styled.size * share)
        flat = styled.reshape(-1)
        flat[:count] += np.where(flat[:count] > 127, -steps, steps)
        return styled.astype(np.uint8)

    return wrong


def test_tolerances_are_those_of_the_export():
    from styleexport import verify

    for precision, ours in (("fp16", "fp16"), ("int8", "int8 plan")):
        theirs = verify.TOLERANCES[ours]
        assert (TOLERANCES[precision].max, TOLERANCES[precision].mean) == (theirs.max, theirs.mean)


@pytest.mark.parametrize("styles", [("invert",), THREE])
def test_an_exact_plan_passes(styles):
    found = check(Plan(styles))
    assert (found.max, found.mean, found.frames) == (0, 0, len(styles) + 1)


@pytest.mark.parametrize(
    ("precision", "steps", "share", "passes"),
    [
        ("fp16", 8, 0.06, True),
        ("fp16", 8, 0.07, False),
        ("fp16", 9, 0.001, False),
        ("int8", 100, 0.02, True),
        ("int8", 100, 0.04, False),
        ("int8", 9, 0.3, True),
    ],
)
def test_where_the_tolerance_ends(precision, steps, share, passes):
    plan = Plan(precision=precision, wrong=off_by(steps, share))
    if passes:
        assert check(plan).max == steps
    else:
        with pytest.raises(DeviceError, match=rf"{precision} plan on fake, style invert: .* up to {steps}, "):
            check(plan)


def test_black_frames_fail_even_if_all_the_photos_are_such_that_black_is_right():
    white = np.full((*SIZE, 3), 255, np.uint8)
    with pytest.raises(DeviceError, match="differs"):
        check(Plan(wrong=lambda styled, *_: styled * 0), [white] * 4)


def test_a_style_that_is_wrong_does_not_hide_behind_the_others():
    def wrong(styled, strength, style):
        return styled + (style[2] == 1) * 9

    with pytest.raises(DeviceError, match="style light: differs"):
        check(Plan(THREE, wrong=lambda *a: wrong(*a).astype(np.uint8)))


def test_a_strength_that_is_not_passed_on_is_seen():
    class Deaf(Plan):
        def infer(self, frame, strength, style=None):
            return super().infer(frame, 1.0, style)

    with pytest.raises(DeviceError, match="half the strength"):
        check(Deaf())


def test_what_is_compared():
    random = np.random.default_rng(1)
    photos = [random.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(2)]
    plan = Plan(THREE)
    found = check(plan, [*photos, random.integers(0, 256, (50, 64, 3), np.uint8)])
    assert found.frames == len(plan.asked) == 3 * 3 + 1
    for style in range(3):
        seen = [frame for frame, strength, weights in plan.asked if strength == 1 and weights[style] == 1]
        assert all((a == b).all() for a, b in zip(seen, [*photos, scene(SIZE)], strict=True))
    assert plan.asked[-1][1] == 0.5 and plan.asked[-1][2].sum() == pytest.approx(1)


def test_called_off():
    cancelled = threading.Event()
    cancelled.set()
    data = inverting_onnx()
    with pytest.raises(Cancelled):
        check_accuracy(Plan(), data, manifest_from_onnx(data, "it"), [], cancelled)


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (360, 640), (700, 90), (1080, 1920)])
def test_the_scene_has_every_size_and_tones(size):
    frame = scene(size)
    assert frame.shape == (*size, 3) and frame.dtype == np.uint8 and frame.flags.c_contiguous
    assert len(np.unique(frame)) > 10
