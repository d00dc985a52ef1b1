"""What the tests of the engines share: a model that inverts, and a machine with a pretend GPU and a fake TensorRT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from pretend_cuda import ROOT, tools

from styleexport.fp16_from_onnx import sealed
from stylesdk.manifest import Manifest

FAKE_PACKAGE = "import sys, fake_tensorrt\nsys.modules[__name__] = fake_tensorrt\n"


def inverting_onnx(styles: tuple[str, ...] = ("invert",)) -> bytes:
    """fp32, in the frame contract; computes what FakeBackend and the plans of ``fake_tensorrt`` do."""
    greys = 50 * np.arange(len(styles), dtype=np.float32)
    several = [
        helper.make_node("Mul", ["style", "first"], ["only_first"]),
        helper.make_node("ReduceSum", ["only_first"], ["inverting"], keepdims=0),
        helper.make_node("Mul", ["inverted", "inverting"], ["part"]),
        helper.make_node("Mul", ["style", "greys"], ["levels"]),
        helper.make_node("ReduceSum", ["levels"], ["grey"], keepdims=0),
        helper.make_node("Add", ["part", "grey"], ["look"]),
    ]
    nodes = [
        helper.make_node("Cast", ["frame"], ["photo"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["full", "photo"], ["inverted"]),
        *(several if len(styles) > 1 else [helper.make_node("Identity", ["inverted"], ["look"])]),
        helper.make_node("Sub", ["look", "photo"], ["way"]),
        helper.make_node("Mul", ["way", "strength"], ["step"]),
        helper.make_node("Add", ["photo", "step"], ["blend"]),
        helper.make_node("Round", ["blend"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["styled"], to=TensorProto.UINT8),
    ]
    shape = [1, "height", "width", 3]
    inputs = [
        helper.make_tensor_value_info("frame", TensorProto.UINT8, shape),
        helper.make_tensor_value_info("strength", TensorProto.FLOAT, [1]),
    ]
    constants = {"full": np.array(255, np.float32)}
    if len(styles) > 1:
        inputs.append(helper.make_tensor_value_info("style", TensorProto.FLOAT, [len(styles)]))
        constants |= {"first": np.eye(1, len(styles), dtype=np.float32)[0], "greys": greys}
    outputs = [helper.make_tensor_value_info("styled", TensorProto.UINT8, shape)]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "invert", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return sealed(model, Manifest("invert", styles, 1, "fp32", "Apache-2.0"))


# A plan, its sidecar, and the kernels that it ran.
PLAN_FILES = ["invert-KEY.plan", "invert-KEY.plan.cache", "invert-KEY.plan.json"]


class Machine:
    """A machine with a pretend GPU, a fake ``tensorrt_rtx`` for every process, and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.model = folder / "invert.onnx"
        self.model.write_bytes(inverting_onnx())
        package = folder / "site" / "tensorrt_rtx"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(FAKE_PACKAGE)

    @property
    def kept(self) -> Path:
        return self.folder / "cache" / "stylesdk" / "engines"

    @property
    def plan(self) -> Path:
        """The only plan that is kept."""
        (plan,) = self.kept.glob("*.plan")
        return plan

    def files(self) -> list[str]:
        """All that lies in the cache, hidden files too, but for the key in their names."""
        return sorted(path.name.replace(path.name.split("-")[1][:16], "KEY") for path in self.kept.iterdir())

    def builds(self) -> list[int]:
        """Number of the process of every build that was begun."""
        log = self.folder / "builds"
        return [int(line) for line in log.read_text().splitlines()] if log.exists() else []

    def start(self, code: str, orders: dict | None = None, **environment: str) -> subprocess.Popen[str]:
        """Begin to run ``code``, where ``stylizer(**options)`` opens the model, and ``settled(s)`` waits for a plan."""
        names = [self.folder / "site", tools() / "site", ROOT / "tests" / "sdk"]
        names += [ROOT / name for name in ("sdk", "trainer", "export")]
        child = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _PROLOGUE.format(model=str(self.model)) + textwrap.dedent(code)],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(tools() / "driver"),
                "PYTHONPATH": os.pathsep.join(map(str, names)),
                "XDG_CACHE_HOME": str(self.folder / "cache"),
                "LOG": str(self.folder / "builds"),
                "MODEL": str(self.model),
                "FAKE_TRT": json.dumps({"log": str(self.folder / "builds"), **(orders or {})}),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # some tests press Ctrl-C
        )
        self.started.append(child)
        return child

    def turn_off(self) -> None:
        """End what a failed test has left."""
        for child in self.started:
            child.kill()
            child.communicate()

    def run(self, code: str, orders: dict | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``code`` to its end."""
        child = self.start(code, orders, **environment)
        out, errors = child.communicate(timeout=120)
        assert child.returncode == 0, out[-2000:] + errors[-4000:]
        return subprocess.CompletedProcess(child.args, 0, out, errors)


_PROLOGUE = """
import os, sys, time, warnings
import numpy as np
import stylesdk
from stylesdk.backends.fake import FakeBackend
from stylesdk.engines import EngineBackend

PLAN = "tensorrt_rtx 1.7.1.116 (Fake GPU)"
random = np.random.default_rng(1)
frame = random.integers(0, 256, (48, 64, 3), np.uint8)

def stylizer(device="cuda", **options):
    return stylesdk.Stylizer({model!r}, device=device, **options)

def building():
    # Waits until the builder is at work; the number of its process.
    log = os.environ["LOG"]
    while not os.path.exists(log) or not open(log).read().endswith("\\n"):
        time.sleep(0.02)
    return int(open(log).read())

def settled(stylizer, frame=frame):
    stylizer.run(frame)
    assert stylizer._backend.wait(60)
    stylizer.run(frame)
    return stylizer.backend
"""
