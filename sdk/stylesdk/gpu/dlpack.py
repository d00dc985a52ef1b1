"""DLPack capsules of pictures on the GPU, by ctypes: https://dmlc.github.io/dlpack (version 0.x structs).

A capsule named ``dltensor`` points to a DLManagedTensor. Whoever takes it renames it ``used_dltensor`` and calls
its deleter when done; a capsule that nobody took calls the deleter itself.
"""

from __future__ import annotations

import ctypes
from typing import Any

CUDA = 2  # kDLCUDA
_UINT, _NAME, _USED = 1, b"dltensor", b"used_dltensor"  # kDLUInt


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("rank", ctypes.c_int32),
        ("type", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),  # in elements; null: C-contiguous
        ("offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
_valid = ctypes.pythonapi.PyCapsule_IsValid
_valid.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

_alive: dict[int, tuple[Any, ...]] = {}  # address of a DLManagedTensor -> it, its shape, and who owns the memory


def _forget(managed: Any) -> None:
    _alive.pop(ctypes.addressof(managed.contents), None)


def _forget_unused(capsule: int) -> None:
    # Called with the capsule's address while it is destroyed: no reference may be taken.
    if _valid(capsule, _NAME):
        _alive.pop(_pointer(capsule, _NAME), None)


_delete, _destroy = _Deleter(_forget), _Destructor(_forget_unused)


def capsule_from_address(address: int, shape: tuple[int, ...], device: int, owner: object) -> object:
    """A capsule of the uint8 array of ``shape`` at ``address``, which keeps ``owner`` alive."""
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    tensor = _Tensor(address, _Device(CUDA, device), len(shape), _Type(_UINT, 8, 1), sizes, None, 0)
    managed = _Managed(tensor, None, _delete)
    place = ctypes.addressof(managed)
    _alive[place] = (managed, sizes, owner)
    return _new(place, _NAME, _destroy)


class _Taken:
    """A DLManagedTensor that was taken from its capsule: deleted with this."""

    def __init__(self, managed: _Managed) -> None:
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.deleter:
            self._managed.deleter(ctypes.byref(self._managed))


def read(capsule: object) -> tuple[int, tuple[int, ...], str, tuple[int, ...] | None, object]:
    """Take a capsule: address, shape, type as numpy's typestr, strides in bytes (None: C-contiguous), and the owner.

    Raises:
        ValueError: not a ``dltensor`` capsule, or one that was taken before.
    """
    place = id(capsule)
    if not _valid(place, _NAME):
        raise ValueError("got: no DLPack capsule, or one that was used before; expected: a fresh one of __dlpack__()")
    managed = _Managed.from_address(_pointer(place, _NAME))
    _rename(place, _USED)
    tensor = managed.tensor
    size = tensor.type.bits * tensor.type.lanes // 8
    kind = {0: "i", 1: "u", 2: "f"}.get(tensor.type.code, "V")
    shape = tuple(tensor.shape[: tensor.rank])
    strides = tuple(step * size for step in tensor.strides[: tensor.rank]) if tensor.strides else None
    order = "|" if size == 1 else "<"
    return tensor.data + tensor.offset, shape, f"{order}{kind}{size}", strides, _Taken(managed)
