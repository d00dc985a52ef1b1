"""The device layer on the pretend CUDA driver: buffers, stream, events, contexts, errors. Never a speed."""

import ctypes

import pytest
from pretend_cuda import live, run_on_pretend_gpu

import stylesdk.gpu.device as device
from stylesdk.errors import DeviceError

NOTHING = {"device": 0, "pinned": 0, "streams": 0, "events": 0}


def test_without_a_driver_nothing_of_cuda_is_imported(monkeypatch):
    def no_library(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert "no NVIDIA driver" in device.cuda_usable()
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        device.open_device()


def test_driver_without_a_gpu():
    run_on_pretend_gpu(
        """
        import sys
        from stylesdk.errors import DeviceError
        from stylesdk.gpu import cuda_usable, open_device
        assert "no GPU" in cuda_usable()
        try:
            open_device()
        except DeviceError as error:
            assert "no GPU" in str(error)
        else:
            raise SystemExit("opened")
        assert "pycuda.driver" not in sys.modules
        """,
        FAKECUDA_NODEV="1",
    )


def test_missing_pycuda_names_the_extra():
    run_on_pretend_gpu(
        """
        import sys
        sys.modules["pycuda"] = None
        from stylesdk.errors import MissingExtraError
        from stylesdk.gpu import open_device
        try:
            open_device()
        except MissingExtraError as error:
            assert "stylesdk[rtx]" in str(error)
        else:
            raise SystemExit("opened")
        """
    )


def test_round_trip_facts_and_events():
    done = run_on_pretend_gpu(
        """
        import numpy as np
        from stylesdk.gpu import cuda_usable, open_device
        assert cuda_usable() == ""
        device = open_device()
        assert (device.name, device.compute_capability, device.driver) == ("Fake GPU", "8.9", "13.1")
        there, back = device.pinned((100, 3), np.uint8), device.pinned((100, 3), np.uint8)
        there[:] = np.arange(300).reshape(100, 3) % 256
        address = device.allocate(there.nbytes)
        start, end, delivered = device.event(), device.event(), device.event()
        device.upload(address, there)
        device.compute_after_copies(delivered)
        device.record(start)
        device.record(end)
        device.copies_after(end)
        device.download(back, address)
        device.finish_copies(delivered)
        device.synchronize()
        assert (there == back).all()
        done = []
        assert all(0 <= x < 1000 for x in device.timed(lambda: done.append(1), 5, copies=True)) and len(done) == 5
        assert device.compute and device.copies and device.compute != device.copies
        with device.cleanup():
            del start, end, delivered
        device.close()
        device.close()
        """,
        FAKECUDA_CC="89",
        FAKECUDA_DRIVER="13010",
        FAKECUDA_LOG="1",
    )
    assert live(done.stderr) == NOTHING
    assert "autoinit" not in done.stderr and "cuCtxCreate" not in done.stderr, "a private context"
    assert done.stderr.count("cuDevicePrimaryCtxRetain") == done.stderr.count("cuDevicePrimaryCtxRelease") == 1


def test_out_of_memory_frees_everything_and_closes():
    done = run_on_pretend_gpu(
        """
        import numpy as np
        from stylesdk.errors import ClosedError, DeviceError
        from stylesdk.gpu import open_device
        device = open_device()
        device.pinned((10,), np.uint8)
        device.allocate(10)
        for count, kind in ((9 << 30, DeviceError), (1, ClosedError)):
            try:
                device.allocate(count)
            except kind as error:
                print(error)
            else:
                raise SystemExit("no error")
        device.close()
        """,
        FAKECUDA_LOG="1",
    )
    assert "Fake GPU is out of memory" in done.stdout
    assert live(done.stderr) == NOTHING


def test_no_such_device():
    run_on_pretend_gpu(
        """
        from stylesdk.errors import DeviceError
        from stylesdk.gpu import open_device
        try:
            open_device(7)
        except DeviceError as error:
            assert "device 7" in str(error)
        else:
            raise SystemExit("opened")
        """
    )


def test_opened_used_and_closed_in_different_threads():
    done = run_on_pretend_gpu(
        """
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        from stylesdk.gpu import open_device

        def on_a_thread(work, *arguments):
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(work, *arguments).result()

        def use(device):
            host = device.pinned((8,), np.uint8)
            host[:] = 7
            address = device.allocate(8)
            device.upload(address, host)
            host[:] = 0
            device.download(host, address)
            device.synchronize()
            return host.copy()

        for _ in range(3):
            device = on_a_thread(open_device)
            assert (on_a_thread(use, device) == 7).all()
            on_a_thread(device.close)
        """,
        FAKECUDA_LOG="1",
    )
    assert live(done.stderr) == NOTHING
    pushed, popped = (done.stderr.count(f"[fakecuda] cuCtx{x}Current_v2") for x in ("Push", "Pop"))
    assert pushed - popped == 1, "the one push of the release at exit, and no other, is left"
