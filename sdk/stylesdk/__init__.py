"""stylesdk: real-time artistic stylization that people can ship.

import cv2, stylesdk

with stylesdk.Stylizer("starry_night") as stylizer:
    out = stylizer.run(cv2.imread("photo.jpg"))
"""

from stylesdk.errors import (
    ClosedError,
    DeviceError,
    EngineMismatchError,
    FrameError,
    MissingExtraError,
    ModelFileError,
    SinkError,
    SourceError,
    SourceLostError,
    StyleError,
    StyleSDKError,
)
from stylesdk.manifest import Manifest
from stylesdk.styles import encode, styles
from stylesdk.stylizer import Stylizer

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "DeviceError",
    "EngineMismatchError",
    "FrameError",
    "Manifest",
    "MissingExtraError",
    "ModelFileError",
    "SinkError",
    "SourceError",
    "SourceLostError",
    "StyleError",
    "StyleSDKError",
    "Stylizer",
    "__version__",
    "encode",
    "styles",
]
