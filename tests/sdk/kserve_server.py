"""A server in the test process that speaks KServe v2 over gRPC, as Triton does.

It is not Triton. It reads config.pbtxt, joins waiting requests of one shape up to the largest preferred batch, runs
model.onnx on onnxruntime, and knows system shared memory. Plans it cannot run; ``stand_ins`` gives their pictures.
"""

# ruff: noqa: N802  # gRPC's names
from __future__ import annotations

import mmap
import os
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

DTYPES = {"UINT8": np.uint8, "FP32": np.float32}
Feeds = dict[str, np.ndarray]
StandIn = Callable[[Feeds], np.ndarray]


class Model:
    """A folder of the repository: its config, and a thread that runs batches of waiting requests."""

    def __init__(self, folder: Path, stand_in: StandIn | None) -> None:
        text = (folder / "config.pbtxt").read_text()
        self.config = text_format.Parse(text, model_config_pb2.ModelConfig())
        assert self.config.name == folder.name
        self.batches: list[int] = []  # how many requests each run joined
        self.open = threading.Event()  # clear it to let requests pile up
        self.open.set()
        self.waiting: queue.Queue[tuple[Feeds, Future] | None] = queue.Queue()
        self.run = stand_in or self._open(folder)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _open(self, folder: Path) -> StandIn:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        data = (folder / "1" / "model.onnx").read_bytes()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return lambda feeds: session.run(["styled"], feeds)[0]

    def ask(self, feeds: Feeds) -> np.ndarray:
        for tensor in self.config.input:
            shape = list(feeds[tensor.name].shape[1 if self.config.max_batch_size else 0 :])
            if any(want not in (-1, size) for want, size in zip(tensor.dims, shape, strict=True)):
                raise ValueError(f"unexpected shape for input '{tensor.name}': {shape}, expected {list(tensor.dims)}")
        answer: Future = Future()
        self.waiting.put((feeds, answer))
        return answer.result()

    def _work(self) -> None:
        while (first := self.waiting.get()) is not None:
            self.open.wait()
            batch = [first]
            most = max(self.config.dynamic_batching.preferred_batch_size, default=1)
            while len(batch) < most and not self.waiting.empty():
                following = self.waiting.get()
                if following is None or following[0]["frame"].shape != first[0]["frame"].shape:
                    self.waiting.put(following)
                    break
                batch.append(following)
            self.batches.append(len(batch))
            try:
                joined = {name: np.concatenate([feeds[name] for feeds, _ in batch]) for name in first[0]}
                styled = self.run(joined if len(batch) > 1 else first[0])
            except Exception as error:
                for _, answer in batch:
                    answer.set_exception(error)
                continue
            for index, (_, answer) in enumerate(batch):
                answer.set_result(styled[index : index + 1])

    def close(self) -> None:
        self.waiting.put(None)
        self._thread.join()


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, repository: Path, stand_ins: Mapping[str, StandIn]) -> None:
        self.models = {f.name: Model(f, stand_ins.get(f.name)) for f in sorted(repository.iterdir())}
        self.shared_files: list[str] = []  # every one that a client has ever named
        self.loading: set[str] = set()
        self.regions: dict[str, mmap.mmap] = {}
        self.shares_memory = True

    def ServerLive(self, request, context):
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request, context):
        return service_pb2.ModelReadyResponse(ready=request.name in self.models.keys() - self.loading)

    def ModelConfig(self, request, context):
        return service_pb2.ModelConfigResponse(config=self.models[request.name].config)

    def SystemSharedMemoryRegister(self, request, context):
        path = f"/dev/shm/{request.key.lstrip('/')}"
        self.shared_files.append(path)
        if not self.shares_memory or not os.path.exists(path):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unable to open shared memory region: '{request.key}'")
        with open(path, "r+b") as file:
            self.regions[request.name] = mmap.mmap(file.fileno(), request.byte_size)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request, context):
        self.regions.pop(request.name).close()
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def ModelInfer(self, request, context):
        raw = iter(request.raw_input_contents)
        try:
            feeds = {tensor.name: self._read(tensor, raw) for tensor in request.inputs}
            styled = np.ascontiguousarray(self.models[request.model_name].ask(feeds))
        except Exception as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        response.outputs.add(name="styled", datatype="UINT8", shape=styled.shape)
        wanted = request.outputs[0].parameters if request.outputs else {}
        if "shared_memory_region" in wanted:
            start = wanted["shared_memory_offset"].int64_param
            assert wanted["shared_memory_byte_size"].int64_param == styled.nbytes
            region = self.regions[wanted["shared_memory_region"].string_param]
            region[start : start + styled.nbytes] = styled.tobytes()
        else:
            response.raw_output_contents.append(styled.tobytes())
        return response

    def _read(self, tensor, raw) -> np.ndarray:
        shape = tuple(tensor.shape)
        if "shared_memory_region" in tensor.parameters:
            start = tensor.parameters["shared_memory_offset"].int64_param
            size = tensor.parameters["shared_memory_byte_size"].int64_param
            data = self.regions[tensor.parameters["shared_memory_region"].string_param][start : start + size]
        else:
            data = next(raw)
        return np.frombuffer(data, DTYPES[tensor.datatype]).reshape(shape)


class Server:
    """Serve ``repository`` on a free port of this machine until ``stop``; ``url`` is what clients need."""

    def __init__(self, repository: Path, stand_ins: Mapping[str, StandIn] | None = None) -> None:
        self.servicer = Servicer(repository, stand_ins or {})
        self.models = self.servicer.models
        self._server = grpc.server(
            ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        )
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self.servicer, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()
        for model in self.models.values():
            model.open.set()
            model.close()
        for region in self.servicer.regions.values():
            region.close()
        self.servicer.regions.clear()
        self.models.clear()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
