"""The page over a WebSocket: what is shown is what the SDK draws, and every control does what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from browser import Server, Tab, decoded, distance, nearest, write_webm

from stylesdk import Stylizer
from stylesdk.frames import Frame
from stylesdk.palette import Style

pytestmark = pytest.mark.browser

SAME = 1.0  # of 255, mean: two decoders of one JPEG
CODEC = 6.0  # of 255, mean: what a JPEG of the browser's changes in the scene, which is all fine grass
OpenTab = Callable[..., Tab]
CAPTURED = """() => {
    window.captured = [];
    for (const { prototype } of [HTMLCanvasElement, HTMLMediaElement]) {
        const own = prototype.captureStream;
        prototype.captureStream = function (...args) {
            const stream = own.apply(this, args);
            captured.push(...stream.getTracks());
            return stream;
        };
    }
}"""
ENDED = "captured.length && captured.every((track) => track.readyState === 'ended')"


@pytest.fixture
def tab(open_tab: OpenTab, server: Server) -> Tab:
    return open_tab(server.url + "?transport=websocket")


def test_styled_frames_are_the_sdks(tab: Tab, stylizer: Stylizer) -> None:
    tab.start()
    tab.until(lambda: len(tab.received) > 3)
    for number in sorted(tab.received)[:3]:
        sent, received = decoded(tab.sent[number]), decoded(tab.received[number])
        assert sent.shape == (270, 480, 3)
        assert distance(as_sent(stylizer.run(sent)), received) < SAME
        assert distance(sent, received) > 20
    assert tab.canvas().shape == (270, 480, 3)
    assert tab.most_in_flight <= 2


def test_look_is_what_the_controls_say(tab: Tab, stylizer: Stylizer) -> None:
    tab.start()
    tab.page.check("input[value=wave]", force=True)
    tab.until(lambda: styled_as(tab, stylizer, style="wave"))
    tab.page.fill("#strength", "0.5")
    tab.until(lambda: styled_as(tab, stylizer, style="wave", strength=0.5))
    assert tab.page.inner_text("#strength-value") == "50 %"
    tab.page.check("#keep-color")
    tab.until(lambda: styled_as(tab, stylizer, style="wave", strength=0.5, keep_color=True))
    tab.page.fill("#strength", "0")
    tab.until(lambda: distance(*tab.pair()) < CODEC)


def test_two_styles_blend_by_a_slider(tab: Tab, stylizer: Stylizer) -> None:
    page = tab.page
    assert page.is_visible("#second") and not page.is_visible("#blend")
    page.select_option("#second", "udnie")
    assert page.inner_text("#blend-value") == "50 %"
    tab.start()
    page.fill("#blend", "0.3")
    tab.until(lambda: styled_as(tab, stylizer, style={"starry_night": 0.7, "udnie": 0.3}))
    assert page.inner_text("#blend-value") == "30 %"
    page.check("input[value=wave]", force=True)
    tab.until(lambda: styled_as(tab, stylizer, style={"wave": 0.7, "udnie": 0.3}))
    assert "starry_night" in offered(tab) and "wave" not in offered(tab)
    page.fill("#blend", "0.9")  # now the second is what is seen
    assert page.get_attribute("#after", "aria-label") == "After: Udnie"
    page.check("input[value=udnie]", force=True)  # with itself it cannot blend
    assert page.input_value("#second") == "" and not page.is_visible("#blend")
    tab.until(lambda: styled_as(tab, stylizer, style="udnie"))


def offered(tab: Tab) -> list[str]:
    """What the chosen style can be blended with."""
    found: list[str] = tab.page.evaluate("[...document.getElementById('second').options].map(({ value }) => value)")
    return found


def test_a_mix_at_the_start_is_shown_and_moved(open_tab: OpenTab, stylizer: Stylizer, tmp_path: Path) -> None:
    mix = "six:wave=0.7,udnie=0.3"
    server = Server(tmp_path / "log", "-s", mix, "--runtime", "onnxruntime", "--threads", "1")
    try:
        server.start()
        tab = open_tab(server.url + "?transport=websocket")
        assert tab.page.is_checked("input[value=wave]")
        assert (tab.page.input_value("#second"), tab.page.input_value("#blend")) == ("udnie", "0.3")
        tab.start()
        tab.until(lambda: styled_as(tab, stylizer, style={"wave": 0.7, "udnie": 0.3}))
        tab.page.select_option("#second", "")
        tab.until(lambda: styled_as(tab, stylizer, style="wave"))
        tab.page.context.close()
    finally:
        server.kill()


@pytest.mark.parametrize(("count", "mix"), [(1, {"starry_night": 1}), (6, {})])
def test_without_two_styles_nothing_is_offered_to_blend(tab: Tab, count: int, mix: dict[str, float]) -> None:
    """Of a model of one style; and where a picture, or the model itself, says how it looks."""
    fill = """([count, style]) => {
      const config = { ...STYLESDK, styles: STYLESDK.styles.slice(0, count), default: { style } };
      new stylesdk.LookControls(config, () => {});
    }"""
    tab.page.evaluate(fill, [count, mix])
    assert not tab.page.is_visible("#second") and not tab.page.is_visible("#blend")
    tab.page.check("input[value=starry_night]", force=True)
    assert tab.page.is_visible("#second") == (count > 1)


def styled_as(tab: Tab, stylizer: Stylizer, style: Style, strength: float = 1, keep_color: bool = False) -> bool:
    sent, received = tab.pair()
    return distance(as_sent(stylizer.run(sent, strength, style, keep_color=keep_color)), received) < SAME


def as_sent(styled: Frame) -> Frame:
    """A picture after the server's JPEG: of a painting, that alone changes 6 of 255."""
    return decoded(cv2.imencode(".jpg", styled, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())


def test_divider_shows_before_and_after(tab: Tab, scene: list[Frame], stylizer: Stylizer) -> None:
    tab.start()
    frame, divider = tab.page.locator("#frame"), tab.page.locator("#divider")
    box = frame.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    tab.page.mouse.move(box["x"] + 2, middle[1])
    tab.page.mouse.down()
    tab.page.mouse.move(*middle, steps=3)
    tab.page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "50"
    styled = [stylizer.run(image) for image in scene]
    left, right = halves(decoded(frame.screenshot()))
    assert nearest(left, [halves(image)[0] for image in scene]) < 8
    assert nearest(right, [halves(image)[1] for image in styled]) < 12
    assert nearest(right, [halves(image)[1] for image in scene]) > 20
    divider.focus()
    for key, value in (("ArrowRight", 52), ("ArrowLeft", 50), ("PageUp", 60), ("Home", 0), ("End", 100)):
        divider.press(key)
        assert divider.get_attribute("aria-valuenow") == str(value)
    assert divider.get_attribute("aria-valuetext") == "100 % before"
    assert nearest(halves(decoded(frame.screenshot()))[1], [halves(image)[1] for image in scene]) < 8
    tab.page.keyboard.press("Space")  # stop: the divider goes, and the last picture is whole
    assert tab.page.evaluate("document.activeElement.id") == "start"
    assert nearest(halves(decoded(frame.screenshot()))[0], [halves(image)[0] for image in styled]) < 12


def halves(image: Frame) -> tuple[Frame, Frame]:
    """The left and the right of a picture, small, without the divider and the round corners."""
    small = cv2.resize(image, (160, 90), interpolation=cv2.INTER_AREA)[8:-8]
    return small[:, 8:66], small[:, 94:-8]


def test_snapshot_is_the_picture(tab: Tab, scene: list[Frame], stylizer: Stylizer) -> None:
    assert tab.page.is_disabled("#snapshot")
    tab.start()
    with tab.page.expect_download() as saved:
        tab.page.click("#snapshot")
    assert saved.value.suggested_filename.startswith("starry_night-")
    assert saved.value.suggested_filename.endswith(".png")
    image = decoded(Path(saved.value.path()).read_bytes())
    assert image.shape == (270, 480, 3)
    assert nearest(image, [stylizer.run(frame) for frame in scene]) < 12
    assert nearest(image, scene) > 20


def test_recording_is_a_film_of_the_styled_frames(tab: Tab, scene: list[Frame], stylizer: Stylizer) -> None:
    tab.start()
    film = recorded(tab)
    styled = [stylizer.run(frame) for frame in scene]
    with av.open(str(film)) as container:
        assert not container.streams.audio
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) > 5
    assert frames[-1].shape == (270, 480, 3)
    assert nearest(frames[-1], styled) < 15 < nearest(frames[-1], scene)


def recorded(tab: Tab) -> Path:
    """Records some twenty frames, and returns the film."""
    tab.page.click("#record")
    assert tab.page.get_attribute("#record", "aria-pressed") == "true"
    before = len(tab.received)
    tab.until(lambda: len(tab.received) > before + 20)
    with tab.page.expect_download() as saved:
        tab.page.click("#record")
    assert saved.value.suggested_filename.endswith(".webm")
    return Path(saved.value.path())


def test_video_file_is_styled_and_recorded_with_its_sound(tab: Tab, scene: list[Frame], tmp_path: Path) -> None:
    clip = write_webm(tmp_path / "clip.webm", [cv2.flip(frame, 1) for frame in scene])
    tab.page.set_input_files("#file", clip)
    tab.live()
    assert tab.page.locator("#source option:checked").inner_text() == "clip.webm"
    sent = tab.pair()[0]
    assert nearest(sent, [cv2.flip(frame, 1) for frame in scene]) < 6 < nearest(sent, scene)
    with av.open(str(recorded(tab))) as container:
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert np.abs(sound).max() > 0.1  # silence would be 0, the tone is 0.5
    assert not [url for url in tab.requests if "clip" in url]  # it stays here


def test_another_source_ends_the_film(tab: Tab, scene: list[Frame], tmp_path: Path) -> None:
    tab.start()
    tab.page.evaluate(CAPTURED)
    tab.page.click("#record")
    before = max(tab.received)
    tab.until(lambda: max(tab.received) > before + 5)
    with tab.page.expect_download() as saved:
        tab.page.set_input_files("#file", write_webm(tmp_path / "clip.webm", scene))
    assert tab.page.get_attribute("#record", "aria-pressed") == "false"
    with av.open(str(saved.value.path())) as container:
        assert not container.streams.audio  # none of the next source's sound
    tab.live()
    assert tab.page.evaluate(ENDED)
    recorded(tab)
    assert tab.page.evaluate(ENDED)
    assert tab.page.evaluate("captured.filter((track) => track.kind === 'audio').length") == 1
    newest = max(tab.received)
    tab.until(lambda: max(tab.received) > newest + 3)  # what it plays goes on


def test_a_film_that_cannot_begin_is_told(tab: Tab) -> None:
    tab.start()
    tab.page.evaluate(CAPTURED)
    tab.page.evaluate("() => { MediaRecorder.prototype.start = () => { throw new Error('no encoder'); }; }")
    tab.page.click("#record")
    assert tab.message == "This cannot be recorded here (no encoder). Try another browser."
    assert tab.state == "live"
    assert tab.page.get_attribute("#record", "aria-pressed") == "false"
    assert tab.page.evaluate(ENDED)


def test_dropped_picture_is_styled(tab: Tab, scene: list[Frame], stylizer: Stylizer) -> None:
    drop(tab, scene[3])
    sent, received = tab.pair()
    assert distance(sent, scene[3]) < CODEC
    assert distance(as_sent(stylizer.run(sent)), received) < SAME


def test_a_transparent_picture_stays_as_transparent(tab: Tab) -> None:
    """It lies on black, and does not grow denser each time that it is drawn."""
    drop(tab, np.full((90, 160, 4), (40, 200, 120, 128), np.uint8))
    tab.until(lambda: len(tab.received) > 10)
    assert distance(tab.pair()[0], np.full((90, 160, 3), (20, 100, 60), np.uint8)) < CODEC


def drop(tab: Tab, image: Frame) -> None:
    """Drop a picture, BGR or BGRA, and wait until it is styled."""
    png = cv2.imencode(".png", image)[1].tobytes()
    transfer = tab.page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "scene.png", { type: "image/png" }));
            return transfer;
        }""",
        list(png),
    )
    tab.page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    tab.live()


def test_smoothing_reaches_the_server(tab: Tab) -> None:
    """Of a picture that stands still, smoothing shows only in what the server echoes."""
    looks: list[str] = []
    tab.page.on("websocket", lambda ws: ws.on("framereceived", lambda d: isinstance(d, str) and looks.append(d)))
    tab.start()
    tab.page.fill("#smoothing", "0.35")
    tab.until(lambda: any('"smoothing": 0.35' in text for text in looks))
    tab.page.press("body", "m")
    tab.until(lambda: any('"smoothing": 0,' in text or '"smoothing": 0}' in text for text in looks[-3:]))
    tab.page.press("body", "m")
    tab.until(lambda: '"smoothing": 0.35' in "".join(looks[-3:]))
    assert tab.page.input_value("#smoothing") == "0.35"


def test_figures_are_told(tab: Tab) -> None:
    tab.start()
    tab.until(lambda: "ms" in tab.page.inner_text("#p50"))
    assert tab.page.inner_text("#backend").startswith("onnxruntime")
    assert tab.page.inner_text("#transport") == "WebSocket"
    assert float(tab.page.inner_text("#fps")) > 0
    both = "['age', 'p50'].map((id) => parseFloat(document.getElementById(id).textContent))"

    def older() -> bool:
        age, p50 = tab.page.evaluate(both)
        return bool(age > p50 > 0)

    tab.until(older)  # an age counts from the camera to the screen
