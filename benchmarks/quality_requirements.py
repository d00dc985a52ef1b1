"""What is asked of a style's figures, as `quality.py` measures them."""

from __future__ import annotations

from typing import Any

from reports import Requirement

OPTIMUM_LIMITS = {"nano": 4.5, "small": 3.5, "base": 3.0}  # times the optimum, median over photos
GRID_LIMIT, INT8_LIMIT, MULTI_LIMIT = 0.05, 2.0, 1.05
NEARLY_EQUAL = 1.1  # images seen
BORDER_LIMITS = {"at_least": 0.8, "at_most": 1.25}
Figures = dict[str, Any]


def requirements(models: Figures) -> list[Requirement]:
    """What is asked of every style; the reference network only serves as a measure."""
    lines = []
    references = {x["style"]: x for x in models.values() if x["reference"]}
    singles = {n: x for n, x in models.items() if not x["reference"] and not x["of_several"] and x["size"] != "nano"}
    for name, found in ((n, x) for n, x in models.items() if not x["reference"]):
        lines += _looks(name, found)
        if "int8" in found:
            lines += _looks(f"{name}.int8", found["int8"])
            lines.append(Requirement(f"{name}: int8 to fp32, mean of 255", found["int8"]["mean"], INT8_LIMIT))
        if found.get("over_optimum") and (limit := OPTIMUM_LIMITS.get(found["size"])):  # none for another network
            lines.append(Requirement(f"{name}: loss over its optimum", found["over_optimum"]["median"], limit))
        beside = references.get(found["style"])
        if found["size"] == "small" and beside and "loss" in found:
            line = _loss_at_most(f"{name}: loss, at most the reference's ({_seen(found, beside)})", found, beside)
            lines += [line] if _comparable(line, found, beside) else []
        for single, alone in singles.items() if found["of_several"] and "loss" in found else ():
            if alone["style"] == found["style"]:
                lines.append(_loss_at_most(f"{name}: loss, within 5 % of {single}'s", found, alone, MULTI_LIMIT))
    return lines


def not_comparable(models: Figures) -> list[str]:
    """Small models that are better than a reference which saw fewer images: that proves nothing."""
    references = {x["style"]: x for x in models.values() if x["reference"]}
    lines = []
    for name, found in models.items():
        beside = references.get(found["style"])
        if found["reference"] or found["size"] != "small" or not beside or "loss" not in found:
            continue
        if not _comparable(_loss_at_most("", found, beside), found, beside):
            lines.append(f"{name}: {_seen(found, beside)}")
    return lines


def _comparable(line: Requirement, found: Figures, reference: Figures) -> bool:
    """At equal images seen, or worse than a reference that saw fewer."""
    return not line.met or (reference["images"] or 0) >= (found["images"] or 0) / NEARLY_EQUAL


def _seen(found: Figures, reference: Figures) -> str:
    return f"{found['images'] or '?'} images seen, the reference {reference['images'] or '?'}"


def _looks(name: str, found: Figures) -> list[Requirement]:
    return [
        Requirement(f"{name}: grid", found["grid"], GRID_LIMIT),
        Requirement(f"{name}: border over the photo's", found["border"], **BORDER_LIMITS),
    ]


def _loss_at_most(what: str, found: Figures, beside: Figures, factor: float = 1.0) -> Requirement:
    return Requirement(what, found["loss"]["total"], beside["loss"]["total"] * factor)
