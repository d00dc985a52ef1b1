"""Which GPUs a plan of TensorRT for RTX is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from styleexport.errors import ExportError

_TURING = "7.5"


def check_targets(trt: Any, flavour: str, targets: Sequence[str]) -> None:
    """Raise ExportError where ``targets``, compute capabilities such as ``8.9``, make no plan of ``flavour``."""
    if not targets:
        return
    if flavour != "tensorrt_rtx":
        raise ExportError(
            f"got: targets {', '.join(targets)} for {flavour}; expected: none, its plans are for the GPU that builds "
            "them.\nDo this: build with flavour tensorrt_rtx, or on a GPU of each kind."
        )
    known = _capabilities(trt)
    if unknown := [target for target in targets if target not in known]:
        raise ExportError(
            f"got: target {unknown[0]}; expected: some of {', '.join(known)}, which {flavour} {trt.__version__} has.\n"
            "Do this: leave targets out for a portable plan, or update TensorRT for RTX."
        )
    if len(set(targets)) < len(targets):
        raise ExportError(f"got: targets {', '.join(targets)}; expected: each once.")
    if _TURING in targets and len(targets) > 1:
        raise ExportError(
            f"got: targets {', '.join(targets)}; expected: Turing ({_TURING}) by itself, since it doubles a plan.\n"
            f"Do this: build one plan for {_TURING}, and one for the others."
        )


def set_targets(trt: Any, config: Any, targets: Sequence[str]) -> bool:
    """Tell a builder's configuration; False where TensorRT refuses one. The count must be set first."""
    known = _capabilities(trt)
    config.num_compute_capabilities = len(targets)
    return all(config.set_compute_capability(known[target], index) for index, target in enumerate(targets))


def _capabilities(trt: Any) -> dict[str, Any]:
    """``8.9`` -> ``ComputeCapability.SM89``, for all that this TensorRT has; by name, never by number."""
    members = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return {f"{name[2:-1]}.{name[-1]}": value for name, value in members.items() if name.startswith("SM")}
