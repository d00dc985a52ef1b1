"""The builder of ``fake_tensorrt``: parses real ONNX, builds plans that invert.

FAKE_TRT holds JSON that tells it what to do: ``plan`` is what goes into the plan (``{"black": 1}``), ``seconds`` how
long it takes, ``die`` the signal by which it dies, ``say`` and ``fail`` what it writes to stderr and to the logger,
``hang`` how long it first says nothing, ``log`` a file that gets the process's number for each build.
"""

import enum
import json
import os
import sys
import time

__all__ = [
    "Builder",
    "ComputeCapability",
    "IProgressMonitor",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
]

ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM80 SM86 SM89 SM90 SM120")
NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")


class IProgressMonitor:
    pass


class Builder:
    def __init__(self, logger):
        self.logger = logger

    def create_network(self, flags):
        return Network()

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        import fake_tensorrt

        orders = json.loads(os.environ.get("FAKE_TRT", "{}"))
        if "log" in orders:
            with open(orders["log"], "a") as log:
                log.write(f"{os.getpid()}\n")
        time.sleep(orders.get("hang", 0))
        print(orders.get("say", ""), file=sys.stderr, flush=True)
        if "die" in orders:
            os.kill(os.getpid(), orders["die"])
        if "fail" in orders:
            self.logger.log(fake_tensorrt.Severity.ERROR, orders["fail"])
            return None
        if not _stepped(config.progress_monitor, orders.get("seconds", 0)):
            return None
        least, _, most = config.profile.shapes
        styles = {"styles": network.styles} if network.styles else {}
        facts = styles | {"targets": config.targets} | orders.get("plan", {})
        return fake_tensorrt.make_plan(least[1:3], most[1:3], **facts)


def _stepped(monitor, seconds):
    """Twenty steps over ``seconds``; False where the monitor wants no more."""
    if monitor is None:
        return True
    monitor.phase_start("Building", None, 20)
    for step in range(20):
        time.sleep(seconds / 20)
        if not monitor.step_complete("Building", step):
            return False
    monitor.phase_finish("Building")
    return True


class Network:
    def __init__(self):
        self.inputs, self.styles = [], 0
        self.num_inputs = 0

    def get_input(self, index):
        return self.inputs[index]


class Profile:
    def set_shape(self, name, *shapes):
        self.shapes = shapes


class Config:
    def __init__(self):
        self.progress_monitor, self.targets, self.num_compute_capabilities = None, [], 0

    def add_optimization_profile(self, profile):
        self.profile = profile
        return 0

    def set_compute_capability(self, capability, index):
        self.targets.append(capability.name)
        return index < self.num_compute_capabilities  # 0 until it is told


class OnnxParser:
    num_errors = 0

    def __init__(self, network, logger):
        self.network = network

    def parse(self, data):
        import onnx

        graph = onnx.load_model_from_string(data).graph
        self.network.inputs = list(graph.input)
        self.network.num_inputs = len(graph.input)
        for value in graph.input:
            if value.name == "style":
                self.network.styles = value.type.tensor_type.shape.dim[0].dim_value
        return True
