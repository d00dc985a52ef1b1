"""The first use builds, the second finds; pictures are right before, at and after the change."""

import hashlib
import json

from pretend_cuda import live
from pretend_machine import PLAN_FILES, inverting_onnx

from stylesdk.manifest import manifest_from_json

NOTHING = {"device": 0, "pinned": 0, "streams": 0, "events": 0}


def test_first_use_builds_and_second_finds(machine):
    first = machine.run(
        """
        import onnxruntime
        with stylizer() as it:
            assert it.backend == f"onnxruntime {onnxruntime.__version__} (CPU)", it.backend
            names = []
            for index in range(2000):
                if index == 3:
                    it._backend.wait(60)
                picture = random.integers(0, 256, (48, 64, 3), np.uint8)
                assert (it.run(picture) == 255 - picture).all(), index
                names.append(it.backend)
                if index > 3 and names[-1] == PLAN:
                    break
            assert names[0] == f"onnxruntime {onnxruntime.__version__} (CPU), while TensorRT builds", names[0]
            assert names[-1] == PLAN and len(set(names)) == 2
            assert it.manifest.precision == "fp32" and it._backend.manifest.precision == "fp16"
        assert it.backend == PLAN, "after close it still says what ran"
        assert "torch" not in sys.modules and "onnx" not in sys.modules
        """,
        {"seconds": 1},
        FAKECUDA_LOG="1",
    )
    assert live(first.stderr) == NOTHING
    assert machine.files() == PLAN_FILES
    second = machine.run(
        """
        with stylizer() as it:
            assert (it.run(frame) == 255 - frame).all()
            assert it.backend == PLAN
        """,
        FAKECUDA_LOG="1",
    )
    assert live(second.stderr) == NOTHING
    assert len(machine.builds()) == 1


def test_the_sidecar_says_in_clear_what_the_plan_is_for(machine):
    machine.run("with stylizer() as it: settled(it)")
    sidecar = manifest_from_json(machine.plan.with_name(machine.plan.name + ".json").read_text(), "it")
    engine = sidecar.engine
    assert (engine.flavour, engine.version, engine.gpu) == ("tensorrt_rtx", "1.7.1.116", "Fake GPU")
    assert (engine.compute_capability, engine.driver, engine.targets) == ("9.0", "13.0", ())
    assert engine.onnx_sha256 == hashlib.sha256(machine.model.read_bytes()).hexdigest()
    assert (sidecar.precision, sidecar.min_size, sidecar.opt_size, sidecar.max_size) == ("fp16", *[(48, 64)] * 3)
    assert sidecar.sha256 == hashlib.sha256(machine.plan.read_bytes()).hexdigest()
    # One frame of the stream and the scene, and the scene at half the strength.
    assert sidecar.quality["accuracy_on_this_gpu"] == {"max": 0, "mean": 0, "frames": 3}
    assert machine.kept.stat().st_mode & 0o777 == 0o700


def test_the_sidecar_holds_the_differences_that_were_found(machine):
    machine.run("with stylizer() as it: assert settled(it) == PLAN", {"plan": {"off": 2}})
    quality = json.loads(machine.plan.with_name(machine.plan.name + ".json").read_text())["quality"]
    assert quality["accuracy_on_this_gpu"]["max"] == 2
    assert 0 < quality["accuracy_on_this_gpu"]["mean"] < 0.5


def test_several_styles_and_a_blend(machine):
    machine.model.write_bytes(inverting_onnx(("invert", "dark", "light")))
    machine.run(
        """
        names = ("invert", "dark", "light")
        reference = stylesdk.Stylizer(backend=FakeBackend((48, 64), names))
        with stylizer() as it:
            assert it.styles == names
            for _ in range(2):
                for style in (*names, {"invert": 1, "dark": 3}):
                    assert (it.run(frame, 0.7, style) == reference.run(frame, 0.7, style)).all(), style
                it._backend.wait(60)
            assert it.backend == PLAN
        """
    )


def test_another_size_is_another_plan_and_two_are_open(machine):
    done = machine.run(
        """
        frames = {h: random.integers(0, 256, (h, 64, 3), np.uint8) for h in (48, 50, 52, 10)}
        with stylizer() as it:
            for height, picture in frames.items():
                assert settled(it, picture) == PLAN
                assert (it.run(picture) == 255 - picture).all() or height == 10
            assert list(it._backend._plans) == [(52, 64), (16, 64)]
            assert (it.run(frames[52]) == 255 - frames[52]).all() and it.backend == PLAN
            assert settled(it, frames[48]) == PLAN
            assert list(it._backend._plans) == [(52, 64), (48, 64)]
        """,
        FAKECUDA_LOG="1",
    )
    assert len(machine.builds()) == 4 and len(list(machine.kept.glob("*.plan"))) == 4
    assert live(done.stderr) == NOTHING


def test_auto_asks_for_a_plan_when_a_size_comes_again(machine):
    machine.run(
        """
        with stylizer("auto") as it:
            for height in (48, 50, 48, 50, 48):
                it.run(np.zeros((height, 64, 3), np.uint8))
                assert "TensorRT" not in it.backend, it.backend
            it.run(frame)
            it._backend.wait(60)
            it.run(frame)
            assert it.backend == PLAN
        """
    )
    assert len(machine.builds()) == 1


def test_what_was_named_decides(machine):
    machine.run(
        """
        with stylizer(runtime="tensorrt", device="auto") as it:
            assert isinstance(it._backend, EngineBackend)
        for options in ({"runtime": "onnxruntime", "device": "auto"}, {"device": "cpu"}):
            with stylizer(**options) as it:
                settled = [it.run(frame) for _ in range(3)]
                assert "onnxruntime" in it.backend or "openvino" in it.backend
                assert not isinstance(it._backend, EngineBackend)
        try:
            stylizer("cpu", runtime="tensorrt")
        except stylesdk.DeviceError as error:
            assert "device 'cpu' with TensorRT" in str(error)
        else:
            raise SystemExit("opened")
        """
    )
    assert machine.builds() == []


def test_progress(machine):
    machine.run(
        """
        from pathlib import Path
        seen = []
        model = Path(os.environ["MODEL"])
        backend = EngineBackend(model, progress=lambda *told: seen.append(told))
        with stylesdk.Stylizer(backend=backend) as it:
            assert settled(it) == PLAN
        assert seen[0] == ("Building", 0.0) and seen[-1] == ("Building", 1.0) and len(seen) == 22
        assert [done for _, done in seen] == sorted(done for _, done in seen)

        def stop(phase, done):
            raise RuntimeError("enough")

        backend = EngineBackend(model, progress=stop)
        with stylesdk.Stylizer(backend=backend) as it:
            other = frame[:40]
            it.run(other)
            backend.wait(60)
            try:
                it.run(other)
            except RuntimeError as error:
                assert str(error) == "enough"
            else:
                raise SystemExit("no error")
        """
    )
    assert machine.files() == PLAN_FILES


def test_a_frame_larger_than_a_tile_is_styled_whole_by_its_plan(machine):
    """onnxruntime gets such a frame in tiles, from the plan it comes back in one piece."""
    from dataclasses import replace

    import onnx

    from styleexport.fp16_from_onnx import sealed
    from stylesdk.onnx_file import manifest_from_onnx

    data = machine.model.read_bytes()
    tiled = replace(manifest_from_onnx(data, "it"), reach=32)
    machine.model.write_bytes(sealed(onnx.load_model_from_string(data), tiled))
    machine.run(
        """
        picture = random.integers(0, 256, (1000, 4000, 3), np.uint8)
        shapes = []
        with stylizer() as it:
            for _ in range(2):
                infer = it._backend.infer
                it._backend.infer = lambda part, *rest: shapes.append(part.shape) or infer(part, *rest)
                assert (it.run(picture) == 255 - picture).all()
                del it._backend.infer
                it._backend.wait(60)
            assert it.backend == PLAN
        assert len(shapes) > 2 and shapes[-1] == picture.shape and picture.shape not in shapes[:-1], shapes
        """
    )


def test_stream_and_frames_on_the_gpu_before_and_after(machine):
    machine.run(
        """
        from stylesdk.gpu.gpu_frame import GpuFrame
        frames = [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(5)]
        def right(styled):
            return all((a == 255 - b).all() for a, b in zip(styled, frames, strict=True))
        room = np.zeros(frames[0].size + 256, np.uint8)
        first = -room.ctypes.data % 256
        room[first : first + frames[0].size] = frames[0].reshape(-1)
        on_gpu = GpuFrame(room.ctypes.data + first, (48, 64, 3))
        with stylizer() as it:
            assert right(it.stream(frames)) and it.backend != PLAN
            try:
                it.run(on_gpu)
            except stylesdk.errors.FrameError as error:
                assert "numpy array until then" in str(error)
            assert settled(it) == PLAN
            assert right(it.stream(frames))
            assert it.run(on_gpu).shape == (48, 64, 3)
        """
    )


def test_a_plan_that_runs_out_of_memory_in_a_stream_is_used_no_more(machine):
    done = machine.run(
        """
        from stylesdk.backends.tensorrt import TensorRTBackend
        frames = [frame] * 5
        with stylizer("auto") as it:
            it.run(frame)
            assert settled(it) == PLAN
            def none_left(backend, *_):
                with backend._device.current():
                    raise backend._device._cuda.MemoryError("pretended")
            TensorRTBackend.submit = none_left
            try:
                list(it.stream(frames))
            except stylesdk.errors.DeviceError as error:
                print("out of memory" in str(error))
            warnings.simplefilter("ignore")
            assert all((out == 255 - frame).all() for out in it.stream(frames)) and it.backend != PLAN
        """
    )
    assert "True" in done.stdout
