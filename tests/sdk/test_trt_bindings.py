"""Every name of TensorRT that our code uses exists in the real bindings of TensorRT 10 and 11, and of RTX.

The bindings of 10 and 11 import over empty libraries, so nothing is built or run here.
"""

import json
import os
import re
import subprocess
import sys

import pytest
from pretend_cuda import ROOT, tools

# `rtx_targets.py` is not among them: what it uses is in TensorRT for RTX only, with which its tests build.
SOURCES = (
    "sdk/stylesdk/backends/tensorrt.py",
    "export/styleexport/engine_from_onnx.py",
    "export/styleexport/build_progress.py",
)

# Class, or "" for the module -> names. The one list of what we use.
USED = {
    "": [
        "__version__",
        "Builder",
        "ILogger",
        "IProgressMonitor",
        "NetworkDefinitionCreationFlag",
        "OnnxParser",
        "Runtime",
    ],
    "ILogger": ["log", "ERROR", "INTERNAL_ERROR"],
    "IProgressMonitor": ["phase_start", "step_complete", "phase_finish"],
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "DataType": ["UINT8", "FLOAT"],
    "TensorIOMode": ["INPUT", "OUTPUT"],
    "Runtime": ["deserialize_cuda_engine"],
    "ICudaEngine": [
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "get_tensor_shape",
        "num_io_tensors",
    ],
    "IExecutionContext": ["execute_async_v3", "get_tensor_shape", "set_input_shape", "set_tensor_address"],
    "Builder": [
        "build_serialized_network",
        "create_builder_config",
        "create_network",
        "create_optimization_profile",
    ],
    "IBuilderConfig": ["add_optimization_profile", "progress_monitor"],
    "IOptimizationProfile": ["set_shape"],
    "INetworkDefinition": ["get_input", "num_inputs"],
    "ITensor": ["name"],
    "OnnxParser": ["get_error", "num_errors", "parse"],
    "ParserError": ["desc", "node_name", "node_operator"],
}

PROBE = """
import importlib, json, sys
trt, used = importlib.import_module(sys.argv[1]), json.loads(sys.argv[2])
missing = [f"{owner}.{name}" for owner, names in used.items() for name in names
           if not hasattr(getattr(trt, owner) if owner else trt, name)]
class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
    def log(self, severity, msg):
        pass
names = [x.name for x in (trt.ILogger.ERROR, trt.DataType.UINT8, trt.DataType.FLOAT, trt.TensorIOMode.INPUT)]
try:
    trt.Runtime(Logger())
    started = "started"
except TypeError:
    started = "TypeError"
print(json.dumps([trt.__version__, missing, names, started]))
"""


@pytest.mark.parametrize("major", ["10", "11", "rtx"])
def test_every_name_exists(major):
    if major == "rtx":
        pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
        module, environment = "tensorrt_rtx", os.environ.copy()
    else:
        module = "tensorrt_bindings"
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(tools() / "stubs" / f"v{major}"),
            "PYTHONPATH": str(tools() / f"py{major}"),
        }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, module, json.dumps(USED)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    version, missing, names, started = json.loads(done.stdout)
    assert version.startswith("1." if major == "rtx" else f"{major}."), version
    assert missing == []
    assert names == ["ERROR", "UINT8", "FLOAT", "INPUT"]
    # Without libraries the bindings answer as on a machine without a GPU: this is what our code catches.
    assert started == ("started" if major == "rtx" else "TypeError")


def test_the_list_above_is_what_the_code_uses():
    source = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in SOURCES)
    for owner, names in USED.items():
        for name in names:
            assert re.search(rf"\b{name}\b", source), f"{owner}.{name} is used no more"
    used = set(re.findall(r"\btrt\.(\w+)", source))
    objects = r"_?engine|_?runtime|self\._context|builder|network|config|parser|profile"
    used |= set(re.findall(rf"\b(?:{objects})\.(\w+)\(", source))
    known = {name for names in USED.values() for name in names}
    assert used - known == set(), "names that the list lacks"
