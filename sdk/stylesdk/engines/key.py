"""What a plan depends on: another value of any field is another plan."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from stylesdk.gpu.device import open_device
from stylesdk.manifest import Engine, Manifest

Size = tuple[int, int]  # height, width in pixels
SMALLEST = 16  # pixels a side of a plan's frame


@dataclass(frozen=True)
class EngineKey:
    """Everything that a plan in the cache is for. All of it stands in the plan's sidecar, in clear.

    A plan is for one size. That is the fastest, needs no more memory than its frames, and cannot be wrong about
    what it was tuned for; a camera or a video keeps its size, and another size is another plan.
    """

    onnx_sha256: str
    precision: str  # int8 of an int8 file, else fp16
    flavour: str
    version: str  # of TensorRT, in full
    gpu: str
    compute_capability: str
    driver: str
    size: Size

    @property
    def name(self) -> str:
        """16 hexadecimal digits that stand for all fields."""
        fields = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()[:16]

    @property
    def engine(self) -> Engine:
        """As a sidecar holds it."""
        facts = (self.flavour, self.version, self.gpu, self.compute_capability, self.driver, self.targets)
        return Engine(*facts, onnx_sha256=self.onnx_sha256)

    @property
    def targets(self) -> tuple[str, ...]:
        """What TensorRT for RTX is to build for: the portable plan leaves out Turing, which wants one of its own."""
        turing = self.flavour == "tensorrt_rtx" and self.compute_capability == "7.5"
        return (self.compute_capability,) if turing else ()

    def differences(self, sidecar: Manifest) -> list[str]:
        """How a plan with this ``sidecar`` is not the key's: a phrase for each field, none where it is."""
        ours = {**dataclasses.asdict(self.engine), "precision": self.precision}
        theirs = {**(dataclasses.asdict(sidecar.engine) if sidecar.engine else {}), "precision": sidecar.precision}
        for which in ("min_size", "opt_size", "max_size"):
            ours[which], theirs[which] = self.size, getattr(sidecar, which)
        return [f"{what} {theirs.get(what)!r}, not {want!r}" for what, want in ours.items() if theirs.get(what) != want]

    def resized(self, size: Size) -> EngineKey:
        """The same for frames of ``size``, or of the smallest that a plan takes."""
        height, width = (max(side, SMALLEST) for side in size)
        return dataclasses.replace(self, size=(height, width))


def key_from_onnx(data: bytes, manifest: Manifest, flavour: str, version: str) -> EngineKey:
    """The key of an ONNX file's plans on this machine, without a size.

    Raises:
        DeviceError: the GPU cannot be opened. MissingExtraError: pycuda is not installed.
    """
    device = open_device()
    try:
        return EngineKey(
            onnx_sha256=hashlib.sha256(data).hexdigest(),
            precision="int8" if manifest.precision == "int8" else "fp16",
            flavour=flavour,
            version=version,
            gpu=device.name,
            compute_capability=device.compute_capability,
            driver=device.driver,
            size=(0, 0),
        )
    finally:
        device.close()
