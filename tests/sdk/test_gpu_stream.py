"""Frames under way at the same time, frames on the GPU, CUDA graphs, results that outlive the engine: host side only,
on the pretend CUDA driver."""

from dataclasses import replace

import pytest
from fake_tensorrt import RTX, make_plan, write_plan
from host_kernels import cmake
from pretend_cuda import live, run_on_pretend_gpu
from test_tensorrt_backend import NOTHING, OPEN


def run(path, code, package="tensorrt_rtx", **environment):
    opened = OPEN.replace("tensorrt_rtx", package).format(path=str(path))
    return run_on_pretend_gpu(opened + code, FAKECUDA_LOG="1", **environment)


@pytest.fixture
def plan(tmp_path):
    return write_plan(tmp_path, make_plan((32, 32), (96, 128)))


@pytest.fixture
def tensorrt_plan(tmp_path):
    """A plan of TensorRT 10 or 11, whose CUDA graph we capture."""
    path = write_plan(tmp_path, make_plan((32, 32), (96, 128), magic=b"ftrt"))
    path.with_name("engine.plan.json").unlink()
    return path


def test_stream_equals_run_in_order_and_copies_overlap(plan):
    done = run(
        plan,
        """
    import itertools
    random = np.random.default_rng(1)
    frames = [random.integers(0, 256, (h, w, 3), np.uint8) for h, w in itertools.chain(
        [(48, 64)] * 5, [(96, 128)] * 3, [(30, 500), (48, 64)])]
    with stylesdk.Stylizer(path) as stylizer:
        wanted = [stylizer.run(frame, 0.7) for frame in frames]
        stylizer.latency.clear()
        sys.stderr.write("STREAM\\n")
        found = list(stylizer.stream(iter(frames), 0.7))
        sys.stderr.write("END\\n")
        assert len(found) == len(frames) and stylizer.latency["total"].count == len(frames)
        assert all((a == b).all() for a, b in zip(found, wanted, strict=True))
        assert list(stylizer.stream([])) == []
        kept = [stylizer.run(frame, keep_color=True) for frame in frames]
        for a, b in zip(stylizer.stream(frames, keep_color=True), kept, strict=True):
            assert (a == b).all()
    del found, wanted, kept, a, b
    """,
    )
    assert live(done.stderr) == NOTHING
    copies = done.stderr.partition("STREAM")[2].partition("END")[0]
    order = "".join("u" if "HtoD" in line else "d" for line in copies.splitlines() if "cuMemcpy" in line)
    # Every frame's way out is queued after the next one's way in; strength goes up once for each place.
    assert order == "uu" + "ud" * 9 + "d" or order == "u" + "uud" + "ud" * 8 + "d", order


def test_a_stream_that_is_left_early_and_run_in_between(plan):
    done = run(
        plan,
        """
    frames = [np.full((48, 64, 3), value, np.uint8) for value in range(9)]
    with stylesdk.Stylizer(path) as stylizer:
        for _ in range(20):
            for out in stylizer.stream(frames):
                assert out[0, 0, 0] == 255
                assert stylizer.run(frames[7])[0, 0, 0] == 248
                break
        both = zip(stylizer.stream(frames), stylizer.stream(reversed(frames)), strict=True)
        assert [(int(a[0, 0, 0]), int(b[0, 0, 0])) for a, b in both] == [(255 - k, 247 + k) for k in range(9)]
        stream = stylizer.stream(frames)
        next(stream)
    try:
        next(stream)
    except stylesdk.errors.ClosedError:
        pass
    else:
        raise SystemExit("went on")
    del out, stream, both
    """,
    )
    assert live(done.stderr) == NOTHING
    assert done.stderr.count("cuMemAlloc_v2") <= 4 * 3, "places are used again"


def test_a_bad_frame_in_a_stream_loses_nothing(plan):
    done = run(
        plan,
        """
    good = np.zeros((48, 64, 3), np.uint8)
    with stylesdk.Stylizer(path) as stylizer:
        for _ in range(10):
            seen = []
            try:
                for out in stylizer.stream([good, good, np.zeros((4, 4), np.uint8), good]):
                    seen.append(out)
            except stylesdk.errors.FrameError:
                assert len(seen) == 1
            else:
                raise SystemExit("no error")
        assert (stylizer.run(good) == 255).all()
    del seen, out
    """,
    )
    assert live(done.stderr) == NOTHING
    assert done.stderr.count("cuMemAlloc_v2") == 2 * 3


def test_results_are_the_callers_to_keep_however_many(plan):
    done = run(
        plan,
        """
    with stylesdk.Stylizer(path) as stylizer:
        kept = [stylizer.run(np.full((48, 64, 3), value, np.uint8)) for value in range(40)]
        views = [out[8:, 8:] for out in kept]
    assert all((out == 255 - value).all() for value, out in enumerate(kept))
    del kept
    assert all((view == 255 - value).all() for value, view in enumerate(views))
    views[0][:] = 7
    del views
    """,
    )
    assert done.stderr.count("cuMemHostAlloc") <= 2 + 8, "page-locked memory is limited"
    assert live(done.stderr) == NOTHING


def test_cuda_graph_is_captured_once_a_size_and_replayed(tensorrt_plan):
    done = run(
        tensorrt_plan,
        """
    import warnings
    warnings.simplefilter("ignore")
    with stylesdk.Stylizer(path) as stylizer:
        frame = np.full((48, 64, 3), 9, np.uint8)
        assert stylizer._backend.run_in_place(3) == [] and stylizer._backend.copy_in_place(3) == ([], [])
        assert (stylizer.run(frame) == 246).all(), "the first frame of a size runs as it is"
        for size in ((48, 64), (96, 128), (48, 64)):
            for _ in range(10):
                stylizer.run(np.zeros((*size, 3), np.uint8))
        assert stylizer._backend.cuda_graph
        print(len(stylizer._backend.run_in_place(20)), *map(len, stylizer._backend.copy_in_place(30)))
    """,
        package="tensorrt",
    )
    assert done.stdout.split() == ["20", "30", "30"]
    # 48x64: 1 plain, 10 by graph. 96x128: 1, 9. 48x64: 1, 9. The last size in place: 20.
    assert done.stderr.count("cuStreamBeginCapture_v2") == done.stderr.count("cuStreamEndCapture") == 3
    assert done.stderr.count("cuGraphLaunch -> 0") == 10 + 9 + 9 + 20
    assert done.stderr.count("cuGraphExecDestroy") == done.stderr.count("cuGraphDestroy") == 3
    assert live(done.stderr) == NOTHING


def test_an_engine_that_cannot_be_captured_runs_without(tensorrt_plan):
    done = run(
        tensorrt_plan,
        """
    import warnings
    warnings.simplefilter("ignore")
    import stylesdk.gpu.graph as graph
    class Refusing(graph.Graph):
        def __init__(self, stream, enqueue):
            super().__init__(stream, lambda: False)
    import stylesdk.gpu.slot as slot
    slot.Graph = Refusing
    with stylesdk.Stylizer(path) as stylizer:
        for value in range(5):
            assert (stylizer.run(np.full((48, 64, 3), value, np.uint8)) == 255 - value).all()
        assert not stylizer._backend.cuda_graph
    """,
        package="tensorrt",
    )
    assert done.stderr.count("cuStreamBeginCapture_v2") == done.stderr.count("cuStreamEndCapture") == 1
    assert "cuGraphLaunch" not in done.stderr
    assert live(done.stderr) == NOTHING


def test_kernels_of_rtx_are_kept_beside_the_plan(plan):
    code = """
    with stylesdk.Stylizer(path) as stylizer:
        assert stylizer._backend.cuda_graph
        stylizer.run(np.zeros((48, {width}, 3), np.uint8))
    """
    cache = plan.with_name("engine.plan.cache")
    run(plan, code.format(width=64))
    assert cache.read_bytes() == b"kernels 64x48"
    run(plan, code.format(width=100))
    assert cache.read_bytes() == b"kernels 100x48 64x48", "what was there is used, and added to"
    cache.write_bytes(b"of another driver")
    run(plan, code.format(width=64))
    assert cache.read_bytes() == b"kernels 64x48"
    assert sorted(p.name for p in plan.parent.iterdir()) == ["engine.plan", "engine.plan.cache", "engine.plan.json"]


ON_GPU = """
    class Cupy:
        # A picture on the pretend GPU, whose memory is the host's.
        def __init__(self, array, **facts):
            self.array = array
            self.__cuda_array_interface__ = {"shape": array.shape, "typestr": array.dtype.str, "version": 3,
                "data": (array.ctypes.data, False), "strides": None, "stream": None, **facts}

    def pixels(address, shape):
        import ctypes
        count = int(np.prod(shape))
        return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address)).reshape(shape).copy()
"""


def test_frames_on_the_gpu_in_and_out(plan):
    done = run(
        plan,
        ON_GPU
        + """
    import gc
    from stylesdk.gpu import dlpack
    frame = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    with stylesdk.Stylizer(path) as stylizer:
        wanted = stylizer.run(frame, 0.7)
        before = frame.copy()
        sys.stderr.write("GPU\\n")
        aligned = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * (frame.size + 256))())
        aligned = aligned[-aligned.ctypes.data % 256:][: frame.size].reshape(frame.shape)
        aligned[:] = frame
        for given in (Cupy(aligned), Cupy(aligned, stream=2), stylizer.run(Cupy(255 - frame), 1.0)):
            out = stylizer.run(given, 0.7)
            facts = out.__cuda_array_interface__
            assert facts["shape"] == (48, 64, 3) and facts["typestr"] == "|u1" and facts["data"][0] == out.address
            assert (pixels(out.address, out.shape) == wanted).all()
        sys.stderr.write("END\\n")
        assert (frame == before).all()
        assert out.__dlpack_device__() == (2, 0)
        # DLPack: out, taken in again, and out once more; the memory lives as long as the last who holds it.
        address, shape, typestr, strides, owner = dlpack.read(out.__dlpack__(stream=1))
        assert (address, shape, typestr, strides) == (out.address, (48, 64, 3), "|u1", None)
        again = stylizer.run(out, 1.0)
        assert (pixels(again.address, again.shape) == 255 - wanted).all()
        capsule = out.__dlpack__()
        del out, given
        gc.collect()
        assert (pixels(address, shape) == wanted).all()
        dlpack.read(capsule)
        try:
            dlpack.read(capsule)
        except ValueError as error:
            assert "used before" in str(error)
        else:
            raise SystemExit("taken twice")
        assert len(dlpack._alive) == 1
        del owner
        assert not dlpack._alive
        again.__dlpack__()
        assert not dlpack._alive, "a capsule that nobody took"
    assert (pixels(again.address, again.shape) == 255 - wanted).all(), "after close, too"
    del again, wanted
    """,
    )
    assert live(done.stderr) == NOTHING
    copies = [x for x in done.stderr.partition("GPU")[2].partition("END")[0].splitlines() if "cuMemcpy" in x]
    # Its own strength, in its own place, and no picture.
    assert len(copies) <= 4 and not any("DtoH" in line for line in copies), copies
    assert sum("DtoD" in line for line in copies) <= 1, "of the one that may lie anywhere"


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("Cupy(np.zeros((48, 64, 4), np.uint8))", "(48, 64, 4)"),
        ("Cupy(np.zeros((48, 64, 3), np.float32))", "<f4"),
        ("Cupy(np.zeros((0, 64, 3), np.uint8))", "(0, 64, 3)"),
        ("Cupy(np.zeros((48, 64, 3), np.uint8), strides=(400, 3, 1))", "strides (400, 3, 1)"),
        ("Cupy(np.zeros((20, 64, 3), np.uint8))", "64x20"),
    ],
)
def test_frames_on_the_gpu_that_do_not_fit(plan, frame, words):
    done = run(
        plan,
        ON_GPU
        + f"""
    with stylesdk.Stylizer(path) as stylizer:
        for _ in range(3):
            try:
                stylizer.run({frame})
            except stylesdk.errors.FrameError as error:
                print(error)
            else:
                raise SystemExit("no error")
        assert (stylizer.run(np.zeros((48, 64, 3), np.uint8)) == 255).all()
    """,
    )
    assert words in done.stdout and "got" in done.stdout
    assert live(done.stderr) == NOTHING


def test_frames_on_the_gpu_want_a_plan(plan):
    run(
        plan,
        ON_GPU
        + """
    on_gpu = Cupy(np.zeros((48, 64, 3), np.uint8))
    with stylesdk.Stylizer(backend=FakeBackend()) as on_cpu, stylesdk.Stylizer(path) as stylizer:
        for call in (lambda: on_cpu.run(on_gpu), lambda: stylizer.run(on_gpu, keep_color=True)):
            try:
                call()
            except stylesdk.errors.FrameError as error:
                assert "frame.cpu().numpy()" in str(error)
            else:
                raise SystemExit("no error")
    """,
    )


@pytest.mark.parametrize("refused", ["lendable_memory", "lendable"])
def test_out_of_memory_while_running_closes_all_of_it(plan, refused):
    done = run(
        plan,
        ON_GPU
        + f"""
    frame = np.zeros((48, 64, 3), np.uint8)
    stylizer = stylesdk.Stylizer(path)
    assert (stylizer.run(frame) == 255).all()
    kept = [stylizer.run(frame) for _ in range(3)]  # so that the next result needs memory
    def none_left(device, *_):
        with device.current():
            raise device._cuda.MemoryError("pretended")
    Device.{refused} = none_left
    wanted = (stylesdk.errors.DeviceError, stylesdk.errors.ClosedError, stylesdk.errors.ClosedError)
    for kind in wanted:
        try:
            stylizer.run(Cupy(frame) if "memory" in {refused!r} else frame)
        except kind as error:
            print(error)
        else:
            raise SystemExit("no error")
    stylizer.close()
    assert all((out == 255).all() for out in kept)
    del kept
    """,
    )
    assert "out of memory" in done.stdout
    assert live(done.stderr) == NOTHING


def test_beside_torch_in_one_process(plan):
    done = run(
        plan,
        """
    import torch
    frame = torch.arange(48 * 64 * 3, dtype=torch.int64).remainder(256).to(torch.uint8).reshape(48, 64, 3)
    with stylesdk.Stylizer(path) as stylizer:
        for _ in range(50):
            out = torch.from_numpy(stylizer.run(frame.numpy()))
            assert bool((out == 255 - frame).all())
            assert bool((torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3)) == 9).all())
    assert bool((out == 255 - frame).all())
    del out
    """,
    )
    assert live(done.stderr) == NOTHING
    assert done.stderr.count("cuDevicePrimaryCtxRetain") == 1 and "cuCtxCreate" not in done.stderr


FITTED = """
    from host_kernels import Host
    from pathlib import Path
    Device.kernels = lambda device: Host(Path({library!r})).kernels
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The kernels' arithmetic for the host, which is where the pretend GPU has its memory."""
    folder = tmp_path_factory.mktemp("kernels")
    cmake(folder, "stylesdk_kernels_host", STYLESDK_CUDA="OFF")
    (found,) = folder.rglob("*stylesdk_kernels_host*.so")
    return str(found)


def test_frames_of_any_size_are_fitted_on_the_gpu(plan, library):
    done = run(
        plan,
        ON_GPU
        + FITTED.format(library=library)
        + """
    random = np.random.default_rng(1)
    sizes = [(48, 64), (200, 300), (20, 500), (96, 128), (7, 9), (200, 300), (48, 64)]
    frames = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    with stylesdk.Stylizer(path) as stylizer:
        backend = stylizer._backend
        assert backend.canvas((200, 300)) == (200, 300)
        wanted = []
        for frame in frames:
            with stylesdk.Stylizer(backend=FakeBackend(canvas=backend._taken(frame.shape[:2]))) as reference:
                wanted.append(reference.run(frame, 0.7).astype(int))
        for _ in range(3):
            found = [*(stylizer.run(frame, 0.7) for frame in frames), *stylizer.stream(frames, 0.7)]
            for out, expected in zip(found, wanted * 2, strict=True):
                assert out.shape == expected.shape and abs(out - expected).max() <= 2, (out.shape,)
        for frame, expected in zip(frames, wanted, strict=True):
            out = stylizer.run(Cupy(frame), 0.7)
            assert out.shape == frame.shape
            assert abs(pixels(out.address, out.shape) - expected).max() <= 2, (out.shape,)
    del out, found
    """,
    )
    assert live(done.stderr) == NOTHING


def test_what_fitting_needs_grows_and_does_not_leak(plan, library):
    done = run(
        plan,
        FITTED.format(library=library)
        + """
    with stylesdk.Stylizer(path) as stylizer:
        for side in [*range(130, 160), *range(160, 130, -1)]:
            assert stylizer.run(np.zeros((side, 200, 3), np.uint8)).shape == (side, 200, 3)
        sys.stderr.write("GROWN\\n")
        for index in range(100):
            stylizer.run(np.zeros((130 + index % 30, 200, 3), np.uint8))
    """,
    )
    grown = done.stderr.partition("GROWN")[2]
    assert "cuMemAlloc_v2" not in grown and "cuMemHostAlloc" not in grown
    assert live(done.stderr) == NOTHING


@pytest.mark.parametrize(
    ("built", "runs"), [("1.7.1.116", True), ("1.6.2", True), ("1.7.2", False), ("1.8.0.1", False), ("2.0.0", False)]
)
def test_the_lean_runtime_runs_what_was_built_for_it_by_no_later_release(tmp_path, built, runs):
    plan = make_plan((48, 64), (48, 64), magic=b"ftrt")
    path = write_plan(tmp_path, plan, replace(RTX, flavour="tensorrt_lean", version=built))
    done = run(
        path,
        """
    try:
        with stylesdk.Stylizer(path) as stylizer:
            print(stylizer.backend, stylizer.run(np.zeros((48, 64, 3), np.uint8)).min())
    except stylesdk.errors.EngineMismatchError as error:
        print(error)
    """,
        package="tensorrt_lean",
    )
    expected = "tensorrt_lean 1.7.1.116 (Fake GPU) 255" if runs else f"built by tensorrt_lean {built}; this machine has"
    assert expected in done.stdout
    assert live(done.stderr) == NOTHING


def test_memory_that_ends_while_a_frame_is_queued(plan, library):
    done = run(
        plan,
        FITTED.format(library=library)
        + """
    frame = np.zeros((48, 64, 3), np.uint8)
    with stylesdk.Stylizer(path) as stylizer:
        frames = stylizer.stream([frame, np.zeros((3000, 4000, 3), np.uint8), frame])
        real = Device.lendable_memory
        def little(device, count):
            if count > 1_000_000:
                with device.current():
                    raise device._cuda.MemoryError("pretended")
            return real(device, count)
        Device.lendable_memory = little
        try:
            next(frames)
        except stylesdk.errors.DeviceError as error:
            print(error)
        else:
            raise SystemExit("no error")
    """,
    )
    assert "out of memory" in done.stdout, "and not what followed from it"
    assert live(done.stderr) == NOTHING


def test_a_frame_anywhere_in_memory_and_one_on_another_gpu(plan):
    done = run(
        plan,
        ON_GPU
        + """
    picture = np.random.default_rng(1).integers(0, 256, (50, 64, 3), np.uint8)
    with stylesdk.Stylizer(path) as stylizer:
        for first in (0, 1, 2):
            part = picture[first : first + 48]
            out = stylizer.run(Cupy(part))
            assert (pixels(out.address, out.shape) == 255 - part).all()
        class Elsewhere:
            def __dlpack_device__(self):
                return 2, 1
            def __dlpack__(self, **_):
                raise SystemExit("touched")
        try:
            stylizer.run(Elsewhere())
        except stylesdk.errors.FrameError as error:
            assert "on GPU 1" in str(error) and "cuda:0" in str(error)
        else:
            raise SystemExit("taken")
    del out
    """,
    )
    assert done.stderr.count("cuMemcpyDtoDAsync_v2 -> 0") >= 1, "what is not aligned is copied, on the GPU"
    assert live(done.stderr) == NOTHING
