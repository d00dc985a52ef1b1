"""TensorRT plans that nobody has to think about: found, built, checked and kept for this GPU."""

from stylesdk.engines.backend import EngineBackend
from stylesdk.engines.cache import cache_folder
from stylesdk.engines.machine import why_not

__all__ = ["EngineBackend", "cache_folder", "why_not"]
