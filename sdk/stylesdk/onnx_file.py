"""Just enough protobuf to trust an ONNX file before a runtime sees it, without the onnx package.

Reads the manifest, checks the hash, and refuses tensors that live outside the file. Field numbers are
those of onnx.proto3: ModelProto graph 7, metadata_props 14; GraphProto node 1, initializer 5;
NodeProto attribute 5; AttributeProto t 5, g 6, tensors 10, graphs 11; TensorProto external_data 13, data_location 14.
"""

from __future__ import annotations

from collections.abc import Iterator

from stylesdk.errors import ModelFileError
from stylesdk.manifest import KEY, Manifest, manifest_from_json, sha256_of_onnx

_DO = "copy the file again, or export it again with `stylesdk export`"
_MESSAGES = {"model": {7: "graph"}, "graph": {1: "node", 5: "tensor"}, "node": {5: "attribute"}}
_MESSAGES["attribute"] = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"}

Span = memoryview


def manifest_from_onnx(data: bytes, source: str) -> Manifest:
    """Check ``data`` and return its manifest.

    Raises:
        ModelFileError: not ONNX, truncated, changed since the export, without a manifest, or with external data.
    """
    try:
        texts = [value for key, value in _metadata(memoryview(data)) if key == KEY.encode()]
        external = _has_external_data(memoryview(data), "model")
    except (IndexError, ValueError) as error:
        raise ModelFileError(
            f"{source}, truncated or no ONNX file ({error})", expected="an intact ONNX file", do=_DO
        ) from error
    if not texts:
        raise ModelFileError(
            f"{source}, an ONNX file without a stylesdk manifest, or a damaged file",
            expected="a model in the frame contract, made by `stylesdk export`",
            do=_DO,
        )
    manifest = manifest_from_json(texts[0].decode("utf-8", "replace"), source)
    found = sha256_of_onnx(data, manifest)
    if found != manifest.sha256:
        raise ModelFileError(
            f"{source}, SHA-256 {found[:16]}…", expected=f"{manifest.sha256[:16]}… (damaged file)", do=_DO
        )
    if external:
        raise ModelFileError(
            f"{source}, whose weights lie in another file", expected="one file that holds everything", do=_DO
        )
    return manifest


def _varint(data: Span, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number that never ends")


def _fields(data: Span) -> Iterator[tuple[int, Span]]:
    """(field number, payload) of a message; payload is empty for numbers."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            start = at
            _, at = _varint(data, at)
            yield key >> 3, data[start:at]
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(data):
            raise ValueError("a field that reaches past the end")
        yield key >> 3, data[at : at + length]
        at += length


def _metadata(model: Span) -> Iterator[tuple[bytes, bytes]]:
    for number, payload in _fields(model):
        if number == 14:
            entry = dict(_fields(payload))
            yield bytes(entry.get(1, b"")), bytes(entry.get(2, b""))


def _has_external_data(message: Span, kind: str) -> bool:
    for number, payload in _fields(message):
        if kind == "tensor":
            if number == 13 or (number == 14 and bytes(payload) == b"\x01"):
                return True
        elif (inner := _MESSAGES[kind].get(number)) and _has_external_data(payload, inner):
            return True
    return False
