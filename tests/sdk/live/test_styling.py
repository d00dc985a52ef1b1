"""What keys and options do to frames: fades, strength, the photo's colours, smoothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from clips import ListSink, ListSource

from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.errors import StyleError
from stylesdk.live import Look, run_pipeline
from stylesdk.live.sources import SourceFrame
from stylesdk.live.styling import Styling

NAMES = ("invert", "dark", "light")  # paint 255 - frame, 50, 100


@pytest.fixture
def three() -> Stylizer:
    return Stylizer(backend=FakeBackend(styles=NAMES))


def grey(level: int, pts: int | None = None, name: str = "") -> SourceFrame:
    return SourceFrame(np.full((32, 48, 3), level, np.uint8), name, pts, Fraction(1, 20) if pts is not None else None)


def level(styled: np.ndarray) -> int:
    assert (styled == styled[0, 0, 0]).all()
    return int(styled[0, 0, 0])


def test_fade_takes_half_a_second_by_the_frames_times(three: Stylizer) -> None:
    look = Look(styles=three.styles)
    styling = Styling(three, look)
    assert level(styling.run(grey(105, 0))) == 150
    look.press("2")
    assert [level(styling.run(grey(105, pts))) for pts in (1, 2, 5, 6, 10, 11, 12)] == [140, 130, 100, 90, 50, 50, 50]
    # A long pause between frames ends the fade; time that runs backwards does not undo it.
    look.press("1")
    assert [level(styling.run(grey(105, pts))) for pts in (13, 5, 60)] == [60, 60, 150]


def test_another_key_in_the_middle_of_a_fade_goes_on_from_there(three: Stylizer) -> None:
    look = Look(styles=three.styles)
    styling = Styling(three, look)
    styling.run(grey(105, 0))
    look.press("2")
    assert level(styling.run(grey(105, 5))) == 100  # half 150, half 50
    look.press("3")
    # The half that is left of each goes over to 100 in a quarter of a second more than a half.
    values = [level(styling.run(grey(105, pts))) for pts in range(6, 16)]
    assert values[-1] == 100 and all(50 < value < 150 for value in values)
    look.press("1")
    assert level(styling.run(grey(105, 16))) == 105


def test_frames_without_times_change_at_once(three: Stylizer) -> None:
    look = Look(styles=three.styles)
    styling = Styling(three, look)
    assert level(styling.run(grey(105, name="a"))) == 150
    look.press("3")
    assert level(styling.run(grey(105, name="b"))) == 100


def test_look_starts_with_its_own_style_and_the_stylizers_without(frame: np.ndarray) -> None:
    with Stylizer("fake:dark=1,light=1", backend=FakeBackend(styles=NAMES)) as stylizer:
        assert level(Styling(stylizer, Look()).run(grey(9, 0))) == 75
        assert level(Styling(stylizer, Look(style={"light": 8})).run(grey(9, 0))) == 100
        with pytest.raises(StyleError, match="nope"):
            Styling(stylizer, Look(style={"nope": 1})).run(grey(9, 0))
    with Stylizer(backend=FakeBackend()) as stylizer:
        assert level(Styling(stylizer, Look(style={"invert": 1})).run(grey(9, 0))) == 246
        with pytest.raises(StyleError, match="nope"):
            Styling(stylizer, Look(style={"nope": 1})).run(grey(9, 0))


def test_keys() -> None:
    look = Look(styles=NAMES)
    assert not any(look.press(key) for key in ("4", "0", "9", "", "x", "²", "s", "upper", ",", "."))
    assert look == Look(styles=NAMES)
    assert look.press("2") and look.style == {"dark": 1.0}
    states = []
    for key in "ccmmm":
        look.press(key)
        states.append((look.keep_color, look.smoothing))
    assert states == [(True, 0), (False, 0), (False, 0.5), (False, 0), (False, 0.5)]
    given = Look(smoothing=0.8)
    for wanted in (0, 0.8, 0):
        given.press("m")
        assert given.smoothing == wanted


def blends(look: Look, keys: str) -> list[dict[str, float]]:
    """The style after each key."""
    return [dict(look.style or {}) for key in keys if look.press(key)]


def test_keys_blend_the_last_two_styles_by_tenths() -> None:
    look = Look(styles=NAMES)
    assert blends(look, "1,.") == [{"invert": 1}], "of one style there is nothing to blend"
    assert blends(look, "3,,.") == [
        {"invert": 0, "light": 1},
        {"invert": 0.1, "light": 0.9},
        {"invert": 0.2, "light": 0.8},
        {"invert": 0.1, "light": 0.9},
    ]
    assert blends(look, "..")[-1] == {"invert": 0, "light": 1}, "no further than to the end"
    assert blends(look, "3" + "," * 12)[-1] == {"invert": 1, "light": 0}
    # What was seen before the third, not what was named last.
    assert blends(look, "2,")[-1] == {"invert": 0.1, "dark": 0.9}
    assert blends(look, "1,")[-1] == {"dark": 0.1, "invert": 0.9}


def test_keys_move_a_mix_that_was_given_and_leave_one_of_three() -> None:
    assert blends(Look(style={"dark": 2, "light": 6}, styles=NAMES), ",.")[0] == {"dark": 0.35, "light": 0.65}
    with Stylizer("fake:dark=0.7,light=0.3", backend=FakeBackend(styles=NAMES)) as stylizer:
        look = Look(style=stylizer.default_style, styles=stylizer.styles)
        assert blends(look, ".,") == [{"dark": 0.6, "light": 0.4}, {"dark": 0.7, "light": 0.3}]
    of_three = Look(style=dict.fromkeys(NAMES, 1.0), styles=NAMES)
    assert not of_three.press(",") and of_three.style == dict.fromkeys(NAMES, 1.0)


def test_blended_frames_are_the_mix_of_both(three: Stylizer) -> None:
    look = Look(styles=three.styles)
    styling = Styling(three, look)
    for key in "23,,,":
        look.press(key)
    assert level(styling.run(grey(105, 0))) == 85  # 0.3 of 50, 0.7 of 100


@pytest.mark.parametrize(("less", "more"), [("-", "+"), ("down", "up"), ("-", "=")])
def test_keys_of_strength_stay_in_range(less: str, more: str) -> None:
    look = Look()
    found = []
    for key in (more, *[less] * 12, more):
        look.press(key)
        found.append(look.strength)
    assert found == [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0.1]


def test_keys_of_smoothing_go_by_tenths_and_m_remembers() -> None:
    look = Look(smoothing=0.9)
    found = []
    for key in "]][mm[":
        look.press(key)
        found.append(look.smoothing)
    assert found == [1, 1, 0.9, 0, 0.9, 0.8]


def test_captions() -> None:
    keys = "+ - strength  c colours  m [ ] smoothing"
    assert Look().captions() == ["strength 100%", keys]
    look = Look(0.4, keep_color=True, smoothing=0.5, style={"dark": 0.7, "light": 0.3}, styles=NAMES)
    assert look.captions() == [
        "dark 70%  light 30%  strength 40%  photo's colours  smoothing 50%",
        f"1-3 style  , . blend  {keys}",
    ]
    assert Look(style={"dark": 0.0, "light": 1.0}, styles=NAMES).captions()[0] == "light  strength 100%"
    assert Look(style={"dark": 1.0}, styles=("dark",)).captions() == ["dark  strength 100%", keys]


def test_keep_color_and_smoothing_reach_the_frames(three: Stylizer) -> None:
    tinted = SourceFrame(np.full((32, 48, 3), (90, 100, 110), np.uint8), "", 0, Fraction(1, 20))
    look = Look(keep_color=True)
    styled = Styling(three, look).run(tinted)
    np.testing.assert_array_equal(styled, three.run(tinted.image, keep_color=True))
    assert len(set(styled[0, 0].tolist())) == 3

    styling = Styling(three, Look(smoothing=1.0))
    values = [level(styling.run(grey(100 + index % 2, index))) for index in range(20)]
    assert len(set(values[10:])) == 1, "noise of one level is gone"


def noise_left(stylizer: Stylizer, move: Callable[[Look, int], None]) -> float:
    """Of the noise of a still scene, the share that smoothing leaves while ``move`` sets the look, frame by frame."""
    random = np.random.default_rng(0)
    steadied, plain = Look(smoothing=0.5, styles=NAMES), Look(styles=NAMES)
    both = [Styling(stylizer, look) for look in (steadied, plain)]
    found = []
    for pts in range(40):
        noisy = np.clip(random.normal(105, 4, (64, 96, 3)), 0, 255).astype(np.uint8)
        move(steadied, pts)
        move(plain, pts)
        frame = SourceFrame(noisy, "", pts, Fraction(1, 20))
        images = [styling.run(frame).astype(np.float32) for styling in both]
        found.append([float(image.std()) for image in images])
    steady, unsteady = np.mean(found[10:], axis=0)
    return float(steady / unsteady)


def faded(look: Look, pts: int) -> None:
    look.strength = 1 - pts / 100


def blended(look: Look, pts: int) -> None:
    look.style = {"invert": 1 - pts / 100, "dark": pts / 100}


def hasty(look: Look, pts: int) -> None:
    look.strength = 0.9 - 0.2 * (pts % 2)


@pytest.mark.parametrize(("move", "least", "most"), [(faded, 0.3, 0.65), (blended, 0.3, 0.65), (hasty, 1, 1)])
def test_a_fader_keeps_the_smoothing_that_it_leaves_time_for(
    three: Stylizer, move: Callable[[Look, int], None], least: float, most: float
) -> None:
    assert least <= noise_left(three, move) <= most


@pytest.mark.parametrize("speed", [1, 3, 6])  # hundredths of the way, a frame
def test_smoothing_never_lags_visibly_behind_a_fader(three: Stylizer, speed: int) -> None:
    look = Look(smoothing=1.0)
    styling = Styling(three, look)
    for pts in range(100 // speed):
        look.strength = 1 - pts * speed / 100
        photo, style = 5, 250
        lag = level(styling.run(grey(photo, pts))) - (photo + look.strength * (style - photo))
        assert abs(lag) < 0.1 * (style - photo)


def test_a_jump_leaves_nothing_of_the_old_look(three: Stylizer) -> None:
    look = Look(smoothing=1.0, styles=NAMES)
    styling = Styling(three, look)
    for pts in range(5):
        styling.run(grey(105, pts))
    for key, pts, expected in (("2", 30, 50), ("1", 60, 150), ("c", 61, 150)):
        look.press(key)
        assert level(styling.run(grey(105, pts))) == expected
    look.strength = 0.5
    assert level(styling.run(grey(105, 62))) == 128


def test_colours_switched_over_leave_nothing_of_the_old_look(three: Stylizer) -> None:
    tinted = np.full((32, 48, 3), (90, 100, 110), np.uint8)
    look = Look(smoothing=1.0)
    styling = Styling(three, look)
    for pts in range(5):
        styling.run(SourceFrame(tinted, "", pts, Fraction(1, 20)))
    look.press("c")
    styled = styling.run(SourceFrame(tinted, "", 5, Fraction(1, 20)))
    np.testing.assert_array_equal(styled, three.run(tinted, keep_color=True))


def test_strength_may_change_between_two_frames(three: Stylizer) -> None:
    look = Look()
    styling = Styling(three, look)
    found = []
    for strength in (1.0, 0.5, 0.0):
        look.strength = strength
        found.append(level(styling.run(grey(105, 0))))
    assert found == [150, 128, 105]


def test_cards_pass_as_they_are_and_what_follows_begins_anew(three: Stylizer) -> None:
    photos = [105, 106] * 3
    smoothed = Styling(three, Look(smoothing=1.0))
    before = [level(smoothed.run(grey(value, pts))) for pts, value in enumerate(photos)]
    assert before[-1] != 255 - 106, "this noise is smoothed, or the test below says nothing"
    card = replace(grey(106, 6), signal=False)
    assert smoothed.run(card) is card.image
    assert level(smoothed.run(grey(106, 7))) == 255 - 106


def test_another_size_in_mid_stream_is_right_at_once(three: Stylizer) -> None:
    styling = Styling(three, Look(smoothing=1.0))
    for pts, value in enumerate([105, 106] * 3):
        styling.run(grey(value, pts))
    large = SourceFrame(np.full((50, 61, 3), 106, np.uint8), "", 7, Fraction(1, 20))
    styled = styling.run(large)
    assert styled.shape == (50, 61, 3) and level(styled) == 255 - 106
    assert level(styling.run(grey(106, 8))) == 255 - 106


def test_stills_are_not_smoothed(three: Stylizer) -> None:
    styling = Styling(three, Look(smoothing=1.0))
    assert [level(styling.run(grey(value, name=str(value)))) for value in (100, 101, 100)] == [155, 154, 155]


def test_pipeline_follows_the_look(three: Stylizer) -> None:
    source, sink, look = ListSource(20), ListSink(), Look(styles=NAMES)
    source.before = lambda index: None
    seen = []

    def press(counts: object) -> None:
        seen.append(counts)
        if len(seen) == 5:
            look.press("3")

    run_pipeline(source, three, sink, look=look, on_frame=press)
    assert sink.seen[4] == (4, 251)
    assert sink.seen[-1] == (19, 100)
    fading = [value for _, value in sink.seen[4:]]
    assert fading == sorted(fading, reverse=True) and len(set(fading)) > 8


def coded() -> Stylizer:
    return Stylizer(backend=FakeBackend(styles=("low", "high"), codes=((40.0, 0.0), (0.0, 120.0))))


def test_codes_fade_in_half_a_second_whatever_their_scale() -> None:
    stylizer = coded()
    look = Look(styles=stylizer.styles)
    styling = Styling(stylizer, look)
    assert level(styling.run(grey(105, 0))) == 40
    look.press("2")
    assert [level(styling.run(grey(105, pts))) for pts in (1, 2, 5, 10, 11)] == [48, 56, 80, 120, 120]
    look.press("1")
    assert [level(styling.run(grey(105, pts))) for pts in (12, 60)] == [112, 40]
    look.press("1")
    assert level(styling.run(grey(105, 61))) == 40


def test_codes_follow_a_fader_at_once() -> None:
    stylizer = coded()
    look = Look(style={"low": 1.0}, styles=stylizer.styles)
    styling = Styling(stylizer, look)
    styling.run(grey(105, 0))
    look.style = {"low": 0.95, "high": 0.05}  # a twentieth of the way, in a tenth of the time that all of it takes
    assert level(styling.run(grey(105, 1))) == 44


class ChosenByTheFrame(Stylizer):
    """Its own style is ``auto``: grey of the frame's own level."""

    def __init__(self) -> None:
        super().__init__(backend=FakeBackend(styles=("low", "high"), codes=((40.0, 0.0), (0.0, 120.0))))
        self.asked = 0

    def style_input(self, style: Any = None, photo: Any = None) -> Any:
        if style is not None:
            return super().style_input(style, photo)
        self.asked += 1
        return np.array([float(photo[0, 0, 0]), 0.0], np.float32)


def test_the_first_frame_of_a_video_chooses_and_every_still() -> None:
    stylizer = ChosenByTheFrame()
    look = Look(styles=stylizer.styles, style={})
    video = Styling(stylizer, look)
    assert [level(video.run(grey(g, pts))) for pts, g in enumerate((70, 10, 20))] == [70, 70, 70]
    assert stylizer.asked == 1
    look.press("2")
    assert level(video.run(grey(10, 60))) == 120
    stills = Styling(stylizer, Look())
    assert [level(stills.run(grey(g, name="still"))) for g in (70, 10, 20)] == [70, 10, 20]
