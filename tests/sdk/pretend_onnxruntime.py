"""onnxruntime-gpu as Python sees it, with the CPU in the GPU's place: real graphs, real pictures, and a GPU's habits.

What it keeps of the real one: providers that cannot load leave their work to the next one without a word; options it
does not know are refused; with a CUDA graph every address and size is fixed, each thread captures for itself, and
a capture fails when another thread uses the GPU meanwhile.
"""

import threading
import time
import weakref
from contextlib import contextmanager

import numpy as np
import onnxruntime as real

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

# design/tensorrt.md 5.3: found as strings in the provider library of onnxruntime-gpu 1.31.
CUDA_OPTIONS = {
    "arena_extend_strategy",
    "cudnn_conv_algo_search",
    "cudnn_conv_use_max_workspace",
    "enable_cuda_graph",
    "fuse_conv_bias",
    "gpu_mem_limit",
    "prefer_nhwc",
    "use_tf32",
    "user_compute_stream",
}
# onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
TENSORRT_OPTIONS = {
    "trt_cuda_graph_enable",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_fp16_enable",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
    "user_compute_stream",
}


class OnnxRuntimeGpu:
    """Stands in for the module ``onnxruntime``.

    Args:
        lost: providers that cannot load.
        refuse: ``(provider, options, inputs)`` -> why a session is refused, "" where it is not.
        run: called with ``(options, shape of the frame)`` before each run; may raise.
        taken: which provider TensorRT's session says that took the graph.
    """

    def __init__(self, lost=(), refuse=lambda *_: "", run=lambda *_: None, taken=TENSORRT):
        self.lost, self.refuse, self.run, self.taken = lost, refuse, run, taken
        self.__version__ = real.__version__
        self.available = [TENSORRT, CUDA, CPU]
        self.sessions = []  # (providers, shape of the frame), in the order of opening
        self.living = weakref.WeakSet()
        self.captures = 0
        self.synchronized = []  # of each run, whether it waits for the GPU
        self._using, self._capturing = 0, None
        self._lock = threading.Lock()
        self.SessionOptions = real.SessionOptions
        self.RunOptions = real.RunOptions
        outer = self

        class OrtValue:
            def __init__(self, value):
                self.value = value

            @staticmethod
            def ortvalue_from_shape_and_type(shape, kind, device, index):
                assert (device, index) == ("cuda", 0)
                with outer.using():
                    return OrtValue(real.OrtValue.ortvalue_from_shape_and_type(shape, kind, "cpu", 0))

            def update_inplace(self, array):
                with outer.using():
                    self.value.update_inplace(array)

            def numpy(self):
                with outer.using():
                    return self.value.numpy()

        self.OrtValue = OrtValue

    def get_available_providers(self):
        return self.available

    def preload_dlls(self):
        if CUDA in self.lost:
            print("Failed to load libcublas.so.13: no such file")
            print("Please follow the documentation")

    def InferenceSession(self, data, options, providers, enable_fallback):  # noqa: N802
        assert enable_fallback == 0, "it would print, and run on the CPU"
        if providers == [CPU]:
            return real.InferenceSession(data, options, providers=[CPU])
        with self.using():
            return Session(self, data, options, providers)

    @contextmanager
    def using(self):
        """A call that CUDA refuses while another thread captures."""
        with self._lock:
            if self._capturing not in (None, threading.get_ident()):
                raise RuntimeError("CUDA error 900: operation not permitted when stream is capturing")
            self._using += 1
        try:
            yield
        finally:
            with self._lock:
                self._using -= 1

    @contextmanager
    def capturing(self):
        with self._lock:
            assert self._using == 1 and self._capturing is None, "a capture broken by another thread"
            self._capturing = threading.get_ident()
        time.sleep(0.02)  # for other threads to come across it
        yield
        self._capturing = None
        self.captures += 1


class Session:
    def __init__(self, outer, data, options, providers):
        for name, given in providers:
            known = {CUDA: CUDA_OPTIONS, TENSORRT: TENSORRT_OPTIONS}[name]
            assert set(given) <= known and all(isinstance(value, str) for value in given.values()), given
        self._outer = outer
        self._real = real.InferenceSession(data, options, providers=[CPU])
        inputs = self._real.get_inputs()
        self._free = [tensor.name for tensor in inputs if any(isinstance(length, str) for length in tensor.shape)]
        self._loaded = [name for name, _ in providers if name not in outer.lost] + [CPU]
        first = self._loaded[0]
        self._options = dict(providers).get(first, {})
        self._graph = "1" in (self._options.get("enable_cuda_graph"),) or (
            self._options.get("trt_cuda_graph_enable") == "True"
        )
        shape = inputs[0].shape
        outer.sessions.append((providers, shape))
        if self._graph and self._free:
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        if why := outer.refuse(first, self._options, shape):
            raise RuntimeError(why)
        self._captured = {}  # thread -> addresses
        outer.living.add(self)

    def get_providers(self):
        return self._loaded

    def get_inputs(self):
        return self._real.get_inputs()

    def get_provider_graph_assignment_info(self):
        class Part:
            ep_name = self._outer.taken

        return [Part]

    def io_binding(self):
        return Binding(self._real)

    def run_with_iobinding(self, binding, options=None):
        with self._outer.using():
            entry = "disable_synchronize_execution_providers"
            self._outer.synchronized.append(options is None or options.get_run_config_entry(entry) != "1")
            self._outer.run(self._options, binding.shape)
            thread = threading.get_ident()
            if self._graph and thread not in self._captured:
                with self._outer.capturing():
                    self._captured[thread] = binding.addresses()
            if self._graph:
                assert self._captured[thread] == binding.addresses(), "a graph replays on fixed addresses"
            self._real.run_with_iobinding(binding.real)


class Binding:
    """An IOBinding on which ``cuda`` means the CPU."""

    def __init__(self, session):
        self.real = session.io_binding()
        self.shape = None
        self._addresses = {}

    def addresses(self):
        return dict(self._addresses)

    def _remember(self, name, address, shape):
        self._addresses[name] = address
        if name == "frame":
            self.shape = tuple(shape)

    def bind_input(self, name, device, index, kind, shape, address):
        assert (device, index) == ("cuda", 0)
        self._remember(name, address, shape)
        self.real.bind_input(name, "cpu", 0, kind, shape, address)

    def bind_output(self, name, device, index, kind, shape, address):
        assert (device, index, kind) == ("cuda", 0, np.uint8)
        self._remember(name, address, shape)
        self.real.bind_output(name, "cpu", 0, kind, shape, address)

    def bind_ortvalue_input(self, name, value):
        self._remember(name, value.value.data_ptr(), value.value.shape())
        self.real.bind_ortvalue_input(name, value.value)

    def bind_ortvalue_output(self, name, value):
        self._remember(name, value.value.data_ptr(), value.value.shape())
        self.real.bind_ortvalue_output(name, value.value)
