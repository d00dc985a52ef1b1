"""Style an image or a video on a Triton server: the SDK's API, the server's GPU.

$ stylesdk export starry_night -o models --format triton  # docs/triton.md starts the server
$ python examples/triton_client.py video.mp4 styled.mp4 --model starry_night_onnx
"""

from __future__ import annotations

import argparse

import stylesdk
from stylesdk.backends.triton import TritonBackend
from stylesdk.live import Look, open_sink, open_source, run_pipeline


def main() -> None:
    """Style SOURCE into SINK."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="image, folder, glob, video, camera index or test")
    parser.add_argument("sink", help="file, folder, window or null")
    parser.add_argument("--url", default="localhost:8001", help="HOST:PORT of the server's gRPC port")
    parser.add_argument("--model", default="starry_night_onnx", help="a folder of the model repository")
    parser.add_argument("--style", help="of a model of several styles, the one to use")
    parser.add_argument("--shared-memory", action="store_true", help="for a server on this machine")
    options = parser.parse_args()
    try:
        backend = TritonBackend(options.url, options.model, shared_memory=options.shared_memory)
        with stylesdk.Stylizer(backend=backend) as stylizer:
            style = {options.style: 1.0} if options.style else stylizer.default_style
            look = Look(style=style, styles=stylizer.styles)
            source = open_source(options.source)
            counts = run_pipeline(source, stylizer, open_sink(options.sink, source, look), look=look)
            print(f"{counts.delivered} frames on {stylizer.backend}: {stylizer.latency['total']}")
    except stylesdk.StyleSDKError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
