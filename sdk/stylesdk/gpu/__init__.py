"""The GPU: pycuda device layer. Nothing of CUDA is imported before a device is opened."""

from stylesdk.gpu.device import Device, open_device
from stylesdk.gpu.driver import cuda_usable

__all__ = ["Device", "cuda_usable", "open_device"]
