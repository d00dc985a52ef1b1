"""The GPU: pycuda device layer. Nothing of CUDA is imported before a device is opened."""

from stylesdk.gpu.device import Device, cuda_usable, open_device

__all__ = ["Device", "cuda_usable", "open_device"]
