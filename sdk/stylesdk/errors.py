"""Everything that stylesdk raises on purpose.

StyleSDKError
├── ModelFileError          a model file is truncated, corrupt, foreign, too large, or not there
├── EngineMismatchError     a TensorRT plan for another GPU, TensorRT or flavour
├── MissingExtraError       an optional package is not installed (also an ImportError)
├── DeviceError             the device that was asked for cannot be had, or failed
├── FrameError              a frame of wrong type, rank, channels or size (also a ValueError)
├── StyleError              a style that the model does not have or take, or weights that do not mix (also a ValueError)
├── SourceError             a camera, file or stream cannot be opened or read
│   └── SourceLostError     one that was there, was lost, and did not come back in time
├── SinkError               an output cannot be opened or written
└── ClosedError             use after close

Every message says what was got, what was expected, and what to do.
"""

from __future__ import annotations


class StyleSDKError(Exception):
    """Base of all errors of stylesdk."""

    def __init__(self, got: str, *, expected: str = "", do: str = "") -> None:
        parts = [f"got: {got}"]
        if expected:
            parts.append(f"expected: {expected}")
        if do:
            parts.append(f"do this: {do}")
        super().__init__("\n".join(parts))


class ModelFileError(StyleSDKError):
    """A model file that is truncated, corrupt, foreign, too large, or not there."""


class EngineMismatchError(StyleSDKError):
    """A TensorRT plan that was built for another GPU, TensorRT version or flavour."""


class MissingExtraError(StyleSDKError, ImportError):
    """An optional package that is not installed; the message has the pip line."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"no package {package}",
            expected=f"{package}, for {purpose}",
            do=f"python -m pip install 'stylesdk[{extra}]'",
        )


class DeviceError(StyleSDKError):
    """The device that was asked for cannot be had, or failed while in use."""


class FrameError(StyleSDKError, ValueError):
    """A frame of wrong type, rank, channels or size."""


class StyleError(StyleSDKError, ValueError):
    """A style, picture or code that the model does not take, or weights that do not mix."""


class SourceError(StyleSDKError):
    """A camera, file or stream that cannot be opened or read."""


class SourceLostError(SourceError):
    """A camera or stream that was there, was lost, and did not come back in time."""


class SinkError(StyleSDKError):
    """An output that cannot be opened or written."""


class ClosedError(StyleSDKError):
    """Use of something that was closed."""
