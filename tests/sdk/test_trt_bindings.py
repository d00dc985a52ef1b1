"""Every name of TensorRT that our code uses exists in the real bindings of TensorRT 10 and 11, and of RTX.

The bindings of 10 and 11 import over empty libraries, so nothing is built or run here.
"""

import ast
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
    "sdk/stylesdk/backends/tensorrt_engine.py",
    "export/styleexport/engine_from_onnx.py",
    "export/styleexport/build_progress.py",
)

# Class, or "" for the module -> names. The one list of what we use.
USED = {
    "": [
        "__version__",
        "Builder",
        "BuilderFlag",
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
    "BuilderFlag": ["EXCLUDE_LEAN_RUNTIME", "VERSION_COMPATIBLE"],
    "IBuilderConfig": ["add_optimization_profile", "progress_monitor", "set_flag"],
    "IOptimizationProfile": ["set_shape"],
    "INetworkDefinition": ["get_input", "num_inputs"],
    "ITensor": ["name"],
    "OnnxParser": ["get_error", "num_errors", "parse"],
    "ParserError": ["desc", "node_name", "node_operator"],
}

# Of TensorRT for RTX alone: the code asks with hasattr, or for the first of them.
USED_ON_RTX = {
    "": ["CudaGraphStrategy"],
    "CudaGraphStrategy": ["DISABLED", "WHOLE_GRAPH_CAPTURE"],
    "ICudaEngine": ["create_runtime_config"],
    "IRuntimeConfig": ["create_runtime_cache", "cuda_graph_strategy", "set_runtime_cache"],
    "IRuntimeCache": ["deserialize", "serialize"],
}

OURS = {"context", "forget", "store"}  # methods of RuntimeCache, which is no name of TensorRT's

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
# What can be called, as pybind11 writes it down: class.name -> text of every overload.
docs = {f"{owner}.{name}": getattr(getattr(trt, owner), name).__doc__ or "" for owner, names in used.items() if owner
        for name in [*names, "__init__"] if callable(getattr(getattr(trt, owner), name, None))}
print(json.dumps([trt.__version__, missing, names, started, docs]))
"""
# Calls in our code -> class.name of the bindings. The rest of the names are attributes, or methods that we override.
MADE = {"Builder": "Builder.__init__", "OnnxParser": "OnnxParser.__init__", "Runtime": "Runtime.__init__"}


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
        [sys.executable, "-W", "error", "-c", PROBE, module, json.dumps(_used(rtx=major == "rtx"))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    version, missing, names, started, docs = json.loads(done.stdout)
    assert version.startswith("1." if major == "rtx" else f"{major}."), version
    assert missing == []
    assert names == ["ERROR", "UINT8", "FLOAT", "INPUT"]
    # Without libraries the bindings answer as on a machine without a GPU: this is what our code catches.
    assert started == ("started" if major == "rtx" else "TypeError")
    assert refused_calls(docs, _calls(rtx=major == "rtx")) == []


def _calls(rtx):
    """(class.name, positional arguments, names of the others) of every call of TensorRT in our code."""
    owners = {name: f"{owner}.{name}" for owner, names in _used(rtx).items() if owner for name in names} | MADE
    for source in SOURCES:
        for node in ast.walk(ast.parse((ROOT / source).read_text(encoding="utf-8"))):
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
            starred = called and any(isinstance(argument, ast.Starred) for argument in node.args)
            # set_shape(name, *three): its three sizes are unpacked.
            if called in owners:
                count = len(node.args) + 2 * starred
                # With an own context configuration: of RTX alone.
                if rtx or (called, count) != ("create_execution_context", 1):
                    yield owners[called], count, {word.arg for word in node.keywords}


def refused_calls(docs, calls):
    """Those calls that no overload takes, by number and names of arguments."""
    refused = []
    for name, count, words in calls:
        method = name.rpartition(".")[2]
        overloads = re.findall(rf"\b{method}\(self: ?[^,)]*(?:, (.*))?\) ->", docs.get(name, ""))
        if overloads and not any(_takes(text, count, words) for text in overloads):
            refused.append((name, count, words, overloads))
    return refused


def _takes(text, count, words):
    parameters = re.findall(r"(\w+): [^=]+?( = [^,]*)?(?:, (?=\w+: )|$)", text)
    needed = {name for name, default in parameters[count:] if not default}
    return count <= len(parameters) and words <= {n for n, _ in parameters[count:]} and needed <= words


def test_a_wrong_call_would_be_noticed():
    docs = {"A.f": "f(self: m.A, name: str, shape: tuple = None) -> bool\n", "A.g": "g(self: m.A) -> None"}
    assert refused_calls(docs, [("A.f", 1, set()), ("A.f", 2, set()), ("A.f", 1, {"shape"}), ("A.g", 0, set())]) == []
    wrong = [("A.f", 0, set()), ("A.f", 3, set()), ("A.f", 1, {"size"}), ("A.g", 1, set())]
    assert [call[:3] for call in refused_calls(docs, wrong)] == wrong


def _used(rtx):
    more = USED_ON_RTX if rtx else {}
    return {owner: USED.get(owner, []) + more.get(owner, []) for owner in {**USED, **more}}


def test_the_list_above_is_what_the_code_uses():
    source = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in SOURCES)
    for owner, names in _used(rtx=True).items():
        for name in names:
            assert re.search(rf"\b{name}\b", source), f"{owner}.{name} is used no more"
    used = set(re.findall(r"\btrt\.(\w+)", source))
    objects = r"_?engine|_?runtime|_context|_?cache|strategy|builder|network|config|parser|profile"
    used |= set(re.findall(rf"\b(?:{objects})\.(\w+)\(", source))
    known = {name for names in _used(rtx=True).values() for name in names} | OURS
    assert used - known == set(), "names that the list lacks"
