"""What limits you, in one line: derived from what was measured, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Medians of one frame in milliseconds, and what the live pipeline did with a camera and without.

    Args:
        preprocess, inference, postprocess, total: stages of ``Stylizer.run``.
        kernel: the runtime alone; None where it cannot be told, and then ``inference`` is not divided.
        copies: to the device and back; None where they are not told: then what ``inference`` takes beyond ``kernel``.
        fps: frames a second of the camera.
        sustained: frames a second without a camera to wait for.
    """

    preprocess: float
    inference: float
    postprocess: float
    total: float
    kernel: float | None
    copies: float | None
    fps: float
    sustained: float


def limit(costs: Costs, faster: Sequence[str] = ()) -> str:
    """The largest part of a frame's time and what helps, or the camera where the model keeps up with it.

    ``faster`` are models of the same style that cost less.
    """
    if costs.sustained >= costs.fps:
        return f"the camera: {costs.fps:.4g} frames/s, the model could do {costs.sustained:.0f}"
    copies, relief = costs.copies, "Stylizer.stream overlaps them with the next frame"
    if copies is None:
        copies, relief = max(costs.inference - (costs.kernel or costs.inference), 0.0), "a smaller --size helps"
    parts = {
        f"inference: {{}} of the frame; {' or '.join(faster) or 'a smaller --size'} helps": costs.inference - copies,
        f"copies to and from the runtime: {{}} of the frame; {relief}": copies,
        "preprocess + postprocess: {} of the frame; give frames in the model's own size": costs.preprocess
        + costs.postprocess,
    }
    line, part = max(parts.items(), key=lambda item: item[1])
    return line.format(f"{100 * part / costs.total:.0f} %")


def faster_models(model: str, bundled: Sequence[str]) -> list[str]:
    """Bundled models of the same style that are smaller, or int8 where ``model`` is not; one step away first."""
    name = model.split(":")[0]
    costs = {other: _cost(other) for other in bundled if other.split(".")[0] == name.split(".")[0]}
    if name not in costs:
        return []
    size, bits = costs[name]
    steps = {
        other: size - cost[0] + bits - cost[1]
        for other, cost in costs.items()
        if other != name and cost[0] <= size and cost[1] <= bits
    }
    return sorted((other for other in steps if steps[other] == min(steps.values())), key=lambda other: -costs[other][1])


def _cost(name: str) -> tuple[int, int]:
    """Rank of size and of precision."""
    words = name.split(".")[1:]
    return (2 if "base" in words else 0 if "nano" in words else 1), int("int8" not in words)
