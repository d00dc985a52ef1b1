"""From a run folder to the files that are shipped: ONNX in fp32, fp16 and int8, each verified."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from styleexport.companions import CodeDifference, companions_beside, companions_from_generator
from styleexport.errors import ExportError
from styleexport.fp16_from_onnx import fp16_from_onnx, sealed
from styleexport.int8_calibration import calibration_samples, int8_within_tolerance
from styleexport.onnx_from_checkpoint import (
    contract_from_generator,
    generator_from_run,
    onnx_from_generator,
)
from styleexport.origin import licence_of, origin_of, training_record
from styleexport.verify import Difference, run_frames, run_torch, verification_samples, verify_each_style
from stylesdk.manifest import Manifest, read_model_file
from stylesdk.mix import AUTO
from stylesdk.onnx_file import manifest_from_onnx
from styletrainer.config import TrainConfig
from styletrainer.run.checkpoint import write_atomically

PRECISIONS = ("fp32", "fp16")  # where none is asked for; int8 needs photos


def export_onnx(
    run: Path,
    out: Path,
    *,
    name: str | None = None,
    precisions: Sequence[str] = PRECISIONS,
    licence: str | None = None,
    photos: Path | None = None,
) -> dict[Path, Difference | CodeDifference]:
    """Write ``NAME.onnx``, ``NAME.fp16.onnx``, ``NAME.int8.onnx`` of a run, each verified before one is written.

    Beside them ``NAME.encoder.onnx`` and ``NAME.chooser.onnx``, where the generator has these.

    Args:
        run: folder of a training run.
        out: folder for the files, made when missing.
        name: of the style; None takes the artwork's file name, or of several styles the run's.
        precisions: which files to write: fp32, fp16, int8.
        licence: of the weights, for the manifest; None takes that of the imported model that the run goes back to, else
            Apache-2.0.
        photos: folder of photographs to verify on; None takes the run's own, else frames made here. int8 is
            refused without photographs.

    Returns:
        For each file its difference to the fp32 generator in torch; the models come first.

    Raises:
        ExportError: a model outside the tolerance of ``verify``, which is then not written.
        TrainError: no finished checkpoint in ``run``, or a full disk.
    """
    if name is not None and (name in ("", "..") or Path(name).name != name):
        raise ExportError(
            f"got: the name {name!r}; expected: that of a file, without a folder.\nDo this: choose -o DIR."
        )
    generator, config = generator_from_run(run)
    styles = styles_of(config, generator)
    name = (
        name
        or origin_of(run).get("name")
        or (Path(config.artworks[0]).stem if config.artworks and not styles else run.resolve().name)
    )
    if photos is None and config.photos and Path(config.photos).is_dir():
        photos = Path(config.photos)
    contract = contract_from_generator(generator)
    # A file is STYLE, STYLE.nano or STYLE.base.
    manifest = _manifest(name, styles or (name.split(".")[0],), run, config, generator, licence or licence_of(run))
    samples = verification_samples(photos, len(manifest.styles), manifest.codes)
    companions = companions_from_generator(generator, manifest, [sample.frame for sample in samples])
    hashes = {kind: manifest_from_onnx(data, kind).sha256 for kind, (data, _) in companions.items()}
    manifest = dataclasses.replace(manifest, companions=hashes)
    wanted = [run_torch(contract, sample) for sample in samples]
    fp32 = onnx_from_generator(generator, manifest)
    models: dict[Path, tuple[bytes, Difference]] = {}
    for precision in precisions:
        path = out / (f"{name}.onnx" if precision == "fp32" else f"{name}.{precision}.onnx")
        if precision == "int8":
            calibration = calibration_samples(photos, len(manifest.styles), manifest.codes)
            data, found = int8_within_tolerance(fp32, name, calibration, samples, wanted)
        else:
            data = fp32 if precision == "fp32" else fp16_from_onnx(fp32, name)
            what, frames = f"{precision} ONNX against fp32 torch", run_frames(data, samples)
            found = verify_each_style(samples, manifest.styles, wanted, frames, precision, what)
        quality = manifest_from_onnx(data, name).quality | {"difference_to_torch": dataclasses.asdict(found)}
        manifest = dataclasses.replace(manifest, precision=precision, quality=quality)
        models[path] = sealed(onnx.load_model_from_string(data), manifest), found
    beside = {out / f"{name}.{kind}.onnx": made for kind, made in companions.items()}
    make_folder(out)
    for path, (data, _) in (beside | models).items():
        _write(path, data)
    return {path: difference for path, (_, difference) in (models | beside).items()}


def fp16_model(path: Path, out: Path, photos: Path | None) -> Path:
    """Write ``NAME.fp16.onnx`` of an fp32 model file, verified against it; an fp16 file is returned as it is.

    Raises:
        ModelFileError: not an intact model of ours. ExportError: outside the tolerance.
    """
    data = read_model_file(path)
    manifest = manifest_from_onnx(data, str(path))
    if manifest.precision != "fp32":
        return path
    samples = verification_samples(photos, len(manifest.styles), manifest.codes)
    half = fp16_from_onnx(data, str(path))
    wanted, found = run_frames(data, samples), run_frames(half, samples)
    verify_each_style(samples, manifest.styles, wanted, found, "fp16", "fp16 ONNX against fp32 ONNX")
    written = out / f"{path.stem}.fp16.onnx"
    make_folder(out)
    copy_companions(path, out)
    _write(written, half)
    return written


def int8_model(path: Path, out: Path, photos: Path | None) -> Path:
    """Write ``NAME.int8.onnx`` of an fp32 model file, verified against it; an int8 file is returned as it is.

    Raises:
        ModelFileError: not an intact model of ours. ExportError: an fp16 model, no photos, or outside the tolerance.
    """
    data = read_model_file(path)
    manifest = manifest_from_onnx(data, str(path))
    if manifest.precision == "int8":
        return path
    asked = photos, len(manifest.styles), manifest.codes
    calibration, samples = calibration_samples(*asked), verification_samples(*asked)
    int8, found = int8_within_tolerance(data, str(path), calibration, samples, run_frames(data, samples))
    quality = manifest_from_onnx(int8, str(path)).quality | {"difference_to_fp32": dataclasses.asdict(found)}
    manifest = dataclasses.replace(manifest, precision="int8", quality=quality)
    written = out / f"{path.stem}.int8.onnx"
    make_folder(out)
    copy_companions(path, out)
    _write(written, sealed(onnx.load_model_from_string(int8), manifest))
    return written


def copy_companions(model: Path, out: Path) -> None:
    """Copy the encoder and the chooser that lie beside ``model`` and belong to it into ``out``, which must exist."""
    for path, data in companions_beside(model).items():
        if path.parent.resolve() != out.resolve():
            _write(out / path.name, data)


def make_folder(folder: Path) -> None:
    """Make ``folder`` where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"got: {error}; expected: a folder for the files.\nDo this: name another with -o.") from error


def _write(path: Path, data: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def styles_of(config: TrainConfig, generator: nn.Module) -> tuple[str, ...]:
    """Names of a run's styles; () where there is one, which is called like the file.

    Raises:
        ExportError: of a generator that names its codes after artworks, two of one name; of one with codes or with a
            chooser, a style named ``auto``.
    """
    code, names = getattr(generator, "code", 0), config.styles
    if not names and code and len(generator.codes()) > 1:  # type: ignore[operator]
        names = tuple(Path(artwork).stem for artwork in config.artworks)
    if AUTO in names and (code or hasattr(generator, "chooser")):
        raise ExportError(
            f"got: a style named {AUTO}; expected: another name, as this one asks the model to choose.\n"
            f"Do this: rename it in the run's config.json, in styles or artworks, and export again."
        )
    if len(set(names)) < len(names):
        raise ExportError(
            f"got: artworks named {', '.join(names)}; expected: each name once.\nDo this: rename one, and train anew."
        )
    return names


def style_codes(generator: nn.Module, styles: Sequence[str]) -> tuple[tuple[float, ...], ...] | None:
    """The codes (S, C) of a generator's named styles; None where styles are no codes.

    Raises:
        ExportError: another number of them, another length, or one with a NaN.
    """
    length = int(getattr(generator, "code", 0))
    if not length:
        return None
    table = generator.codes().detach().cpu().float().numpy()  # type: ignore[operator]
    if table.shape != (len(styles), length) or not np.isfinite(table).all():
        raise ExportError(
            f"got: codes() of shape {table.shape}{'' if np.isfinite(table).all() else ', with a NaN or an infinity'}; "
            f"expected: finite numbers ({len(styles)}, {length}), a row for each of {', '.join(styles)}"
        )
    # The shortest text that is the same float32.
    return tuple(tuple(float(str(value)) for value in row) for row in table)


def _manifest(
    name: str, styles: tuple[str, ...], run: Path, config: TrainConfig, generator: Any, licence: str
) -> Manifest:
    return Manifest(
        name=name,
        styles=styles,
        stride=int(generator.stride),
        reach=int(getattr(generator, "reach", 0)),
        precision="fp32",
        licence=licence,
        training=training_record(run, config),
        codes=style_codes(generator, styles),
    )
