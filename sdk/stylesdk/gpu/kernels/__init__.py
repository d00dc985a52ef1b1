"""CUDA kernels that prepare camera frames on the GPU. CMake builds them into ``kernels.fatbin``, all that they need."""

from stylesdk.gpu.kernels.launch import FATBIN, Kernels, load_kernels
from stylesdk.gpu.kernels.smoothing import DeviceSmoother, smoothing_bytes

__all__ = ["FATBIN", "DeviceSmoother", "Kernels", "load_kernels", "smoothing_bytes"]
