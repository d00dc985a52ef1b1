"""Stands in for the package ``tensorrt_rtx``: engines that do what FakeBackend does, over the pretend driver's memory.

It keeps the real bindings' habits: bools and None for failure, text only to the logger, addresses as ints.
"""

import ctypes
import enum
import hashlib
import json
from dataclasses import replace

import numpy as np

from stylesdk.manifest import Engine, Manifest

__version__ = "1.7.1.116"
CudaGraphStrategy = enum.Enum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")
Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
DataType = enum.Enum("DataType", "FLOAT HALF UINT8")
RTX = Engine("tensorrt_rtx", __version__)


def make_plan(low, high, *, magic=b"vtrt", **behaviour):
    """Bytes of a plan for frames of (height, width) ``low`` to ``high``."""
    payload = json.dumps({"low": low, "high": high, **behaviour}).encode()
    return magic + bytes(12) + (64 + len(payload)).to_bytes(8, "little") + bytes(40) + payload


def write_plan(folder, plan, engine=RTX, styles=("invert",)):
    """A plan and its sidecar; returns the plan's path."""
    manifest = Manifest("invert", styles, 1, "fp32", "Apache-2.0", hashlib.sha256(plan).hexdigest())
    path = folder / "engine.plan"
    path.write_bytes(plan)
    sidecar = replace(manifest, opt_size=(720, 1280), engine=engine)
    (folder / "engine.plan.json").write_text(sidecar.to_json())
    return path


class ILogger:
    def __init__(self):
        pass


class Runtime:
    def __init__(self, logger):
        self.logger = logger

    def deserialize_cuda_engine(self, data):
        facts = json.loads(data[64:])
        if "refuse" in facts:
            self.logger.log(Severity.ERROR, facts["refuse"])
            self.logger.log(Severity.INTERNAL_ERROR, "ScopedCudaStream ... cudaError 35")
            self.logger.log(Severity.WARNING, "a warning, of no interest")
            return None
        return Engine(facts, self.logger)


class Engine:
    def __init__(self, facts, logger):
        self.facts, self.logger = facts, logger
        self.names = ["frame", "strength", *(["style"] if "styles" in facts else []), facts.get("output", "styled")]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in ("frame", "strength", "style") else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        if name == "style":
            return DataType[self.facts.get("style_type", "FLOAT")]
        return DataType.FLOAT if name == "strength" else DataType.UINT8

    def get_tensor_shape(self, name):
        if name == "style":
            return (self.facts["styles"],)
        fixed = self.facts["low"] == self.facts["high"]
        return (1, *(self.facts["low"] if fixed else (-1, -1)), 3)

    def get_tensor_profile_shape(self, name, profile):
        low, high = ((1, *self.facts[key], 3) for key in ("low", "high"))
        return [low, low, high]

    def create_execution_context(self, config=None):
        return None if self.facts.get("no_context") else Context(self.facts, self.logger, config)

    def create_runtime_config(self):
        return RuntimeConfig()


class RuntimeConfig:
    """Of TensorRT for RTX."""

    cuda_graph_strategy = None
    cache = None

    def create_runtime_cache(self):
        return RuntimeCache()

    def set_runtime_cache(self, cache):
        self.cache = cache


class RuntimeCache:
    """Kernels of a size, compiled when a frame of it first runs."""

    def __init__(self):
        self.kernels = set()

    def deserialize(self, data):
        if not data.startswith(b"kernels"):
            return False
        self.kernels = set(data.decode().split()[1:])
        return True

    def serialize(self):
        return " ".join(["kernels", *sorted(self.kernels)]).encode()


class Context:
    def __init__(self, facts, logger, config):
        self.facts, self.logger, self.config = facts, logger, config
        self.addresses, self.shape = {}, None

    def set_input_shape(self, name, shape):
        inside = all(a <= s <= b for a, s, b in zip(self.facts["low"], shape[1:3], self.facts["high"], strict=True))
        if name == "frame" and inside:
            self.shape = shape
        return name == "frame" and inside

    def get_tensor_shape(self, name):
        extra = self.facts.get("extra", 0)
        return (1, self.shape[1] + extra, self.shape[2], 3)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        if not stream or self.facts.get("fail"):
            self.logger.log(Severity.ERROR, "kernel launch failed")
            return False
        if self.config and self.config.cache:
            self.config.cache.kernels.add(f"{self.shape[2]}x{self.shape[1]}")
        count = int(np.prod(self.shape))
        frame = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(self.addresses["frame"]))
        styled = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(self.addresses["styled"]))
        strength = ctypes.c_float.from_address(self.addresses["strength"]).value
        photo = frame.astype(np.float32)
        look = 255 - photo
        if "styles" in self.facts:
            weights = (ctypes.c_float * self.facts["styles"]).from_address(self.addresses["style"])
            look = weights[0] * look + 50 * sum(k * weight for k, weight in enumerate(weights))
        styled[:] = np.rint(photo + strength * (look - photo)).astype(np.uint8)
        if "black" in self.facts:
            styled[:] = 0
        if "off" in self.facts:  # one pixel in a hundred, by so many steps
            styled[::300] ^= self.facts["off"]
        return True


from fake_tensorrt_builder import *  # noqa: E402, F403  # the other half of the package
