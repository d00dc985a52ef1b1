"""Write the model cards of the bundled styles, from their manifests and the figures in benchmarks/results.

python benchmarks/cards.py
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

from reports import Requirement

from stylesdk.styles import Style, styles
from styletrainer.cli import STAGES
from styletrainer.config import TrainConfig, settings_from_toml

RESULTS = Path(__file__).parent / "results"
ARTWORKS = {
    "starry_night": "Vincent van Gogh, *The Starry Night* (1889)",
    "the_scream": "Edvard Munch, *The Scream* (1893)",
    "composition_vii": "Wassily Kandinsky, *Composition VII* (1913)",
    "wave": "Katsushika Hokusai, *The Great Wave off Kanagawa* (1831)",
    "shipwreck": "J. M. W. Turner, *The Wreck of a Transport Ship* (about 1810)",
    "udnie": "Francis Picabia, *Udnie* (1913)",
}
PLACES = {"run", "photos", "vgg", "accelerator", "workers", "tick", "minutes", "steps", "result"}
COMMAND = {"artworks", "styles", "pictures", "start", "generator", "generator_options", "new_style_only", "seed"}

CARD = """# {name}

{subject}, as a real-time network.

{files}

- Licence: Apache-2.0, weights included: trained by us, nothing of third parties inside. The paintings are in the public
  domain.
- Data: one scan of each painting; 388 photographs (481x321, Berkeley BSDS500 without the twelve of
  `benchmarks/held_out.txt`), used for training only, not part of the project. Perceptual networks: VGG-19 to relu3_3
  (Simonyan & Zisserman 2014), the slim VGG-19 of Collaborative Distillation (Wang et al. 2020) for relu4_1, relu5_1.
- Machine: one core for each run of a 2-core Intel Xeon with AMX, in the last runs of a 2-core AMD EPYC, bf16, shared
  with other work.

## Commands

`PHOTOS` is the folder of photographs. First a teacher of the reference size for every style, and its pictures of
all photos:

```sh
stylesdk train STYLE.jpg --photos PHOTOS -o runs/t_STYLE --stage teacher --minutes 6
stylesdk export runs/t_STYLE -o teachers --precision fp32
stylesdk run PHOTOS -s teachers/STYLE.onnx -o PICTURES/STYLE
```

The teacher of starry_night took 712 steps; the others began with its 240th step and took 134 to 240. Then, each run
beginning with the one before:

{commands}

Runs were bounded by `--minutes`; the steps behind each line are what these gave. Runs with `learning_rate=0.001`, and
those of the stages before them, were made with Adam, before Muon came. In the last runs of a style the losses saw no
border (`trainer/styletrainer/data/views.py`); in earlier ones half of each batch had one. What is named `n_...`
was brought back from the file that shipped before (`stylesdk import`).

## Figures

{figures}

On a GPU (TensorRT, CUDA graph): not measured; `python benchmarks/gpu_check.py` measures it.

## Limits

- Strokes have one size in pixels: on 1080p they look finer than on 480p.
- One scan, one palette: the photo's colours are replaced; `--keep-color` keeps them.
- Heavily compressed video shows its blocks in the strokes. Large even areas are filled
  with one mark again and again (most in udnie and composition_vii) or get less texture than the painting has.
{missed}
"""


def results(name: str) -> dict[str, Any]:
    """A report of benchmarks/results, empty where it has not been made."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def command(training: dict[str, Any], name: str) -> str:
    """The line that does a training again, from the settings that a manifest carries."""
    minutes, steps = training.get("minutes"), training.get("result", {}).get("step")
    stage = "distill" if training.get("pictures") else "teacher" if training["generator"] == "johnson" else "finish"
    words = ["stylesdk", "train", *training["artworks"], "--photos", "PHOTOS", "-o", f"runs/{name}"]
    words += ["--many"] if len(training["styles"]) > 1 else []
    words += [w for folder in training["pictures"] for w in ("--pictures", f"PICTURES/{folder}")]
    words += ["--start", f"runs/{training['start']}"] if training.get("start") else []
    words += ["--generator", training["generator"]] if training["generator"] != "realtime" else []
    words += ["--size", training["generator_options"]["size"]] if training["generator_options"] else []
    words += ["--stage", stage, *(["--minutes", f"{minutes:g}"] if minutes else ["--steps", str(steps)])]
    words += ["--seed", str(training["seed"])] if training["seed"] else []
    usual = vars(TrainConfig((), "", "")) | settings_from_toml(STAGES / f"{stage}.toml")
    other = {k: v for k, v in training.items() if k not in PLACES | COMMAND and k in usual and v != usual[k]}
    other.pop("precision", None)  # auto finds it
    words += [w for k, v in sorted(other.items()) for w in ("--set", f"{k}={json.dumps(v)}")]
    return f"{shlex.join(words)}  # {steps} steps of {training['batch']}"


def commands(files: list[Style]) -> list[str]:
    """All runs that led to these files, first to last, and their exports."""
    lines: list[str] = []
    for file in (f for f in files if f.manifest.precision == "fp32"):
        chain, training, name = [], file.manifest.training, file.name
        while training:
            chain.append(command(training, name))
            training, name = training.get("before", {}), training.get("start") or ""
        precisions = [f.manifest.precision for f in files if f.name.removesuffix(".int8") == file.name]
        asked = " ".join(f"--precision {precision}" for precision in precisions)
        lines += [*reversed(chain), f"stylesdk export runs/{file.name} -o models --photos PHOTOS {asked}"]
    return ["```sh", *dict.fromkeys(lines), "```"]


def missed(labels: list[str]) -> list[str]:
    """What was asked of these models and does not hold."""
    asked = [line for name in ("quality", "temporal", "latency") for line in results(name).get("requirements", [])]
    wanted = [line for line in asked if line["what"].partition(": ")[0].removesuffix(".int8") in labels]
    lines = [Requirement(line["what"], line["found"], line["at_most"], line["at_least"]) for line in wanted]
    return [f"- {line}." for line in lines if not line.met]


def figures(model: str, style: str) -> dict[str, str]:
    """What was measured of one style of one file: column -> text."""
    label = f"{model}:{style}" if model == "six" else model
    quality = results("quality").get("models", {}).get(label, {})
    clips = [clip["models"].get(label) for clip in results("temporal").get("clips", {}).values()]
    seen = [clip for clip in clips if clip]
    over = quality.get("over_optimum") or {}
    int8 = quality.get("int8")
    return {
        "loss (content + style)": f"{quality['loss']['total']:.2f}" if "loss" in quality else "",
        "of the L-BFGS optimum": f"{over['median']:.1f}x" if over else "",
        "grid": f"{quality['grid']:.3f}" if quality else "",
        "border": f"{quality['border']:.2f}" if quality else "",
        "edge SSIM": f"{quality['edges']:.2f}" if quality else "",
        "int8, mean of 255": f"{int8['mean']:.2f}" if int8 else "",
        "warping, worst clip": f"{max(clip['short'] for clip in seen):.2f}x" if seen else "",
        "noise, worst clip": f"{max(clip['noise'] for clip in seen):.2f}x" if seen else "",
    }


def latencies(model: str) -> list[str]:
    """Rows of the latency table: one a runtime."""
    size = next((s for s in ("nano", "base") if s in model.split(".")), "")
    measured = "starry_night" + (f".{size}" if size else "")
    rows = []
    for label, entry in results("latency").get("models", {}).items():
        if label.split()[0] == measured:
            file = label.removeprefix(measured).strip()
            times, total = entry["times_faster"], entry["milliseconds"]["total"]
            rows.append(
                f"| {size or 'small'}, {file} | {entry['backend']} | {total['p50']:.1f} ms | {total['p99']:.1f} ms | "
                f"{f'{times:.1f}x' if times else ''} |"
            )
    return rows


def card(name: str, files: list[Style]) -> str:
    """The card of one style, or of the model of several."""
    fp32 = [f for f in files if f.manifest.precision == "fp32"]
    rows = ["| file | precision | MB | stride |", "|---|---|---|---|"]
    rows += [f"| `{f.name}` | {f.manifest.precision} | {f.bytes / 1e6:.2f} | {f.manifest.stride} |" for f in files]
    several = fp32[0].manifest.styles
    subject = " · ".join(ARTWORKS[style] for style in several) if len(several) > 1 else ARTWORKS[name]
    table: list[str] = []
    for file in fp32:
        for style in file.manifest.styles:
            found = figures(file.name, style)
            if not table:
                table = ["| model | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
            table.append(f"| {style if len(several) > 1 else file.name} | " + " | ".join(found.values()) + " |")
    sources = [f"`{results(report)['command']}`" for report in ("quality", "temporal") if results(report)]
    table += ["", *sources]
    lines = [row for file in fp32 for row in latencies(file.name)] if len(several) == 1 else []
    if lines:
        measured = "" if name == "starry_night" else ", measured on starry_night, whose networks have the same shapes"
        table += ["", f"Latency at 640x480, 2 threads{measured} (`{results('latency')['command']}`):", ""]
        table += ["| file, runtime | ran on | p50 | p99 | times the reference |", "|---|---|---|---|---|", *lines]
    labels = [f"{f.name}:{style}" if len(several) > 1 else f.name for f in fp32 for style in several]
    texts = {"files": rows, "commands": commands(files), "figures": table, "missed": missed(labels)}
    return CARD.format(name=name, subject=subject, **{key: "\n".join(lines) for key, lines in texts.items()})


def main() -> None:
    """Write STYLE.md beside the files of every style."""
    by_style: dict[str, list[Style]] = defaultdict(list)
    for entry in styles():
        by_style[entry.name.split(".")[0]].append(entry)
    for name, files in by_style.items():
        files[0].path.with_name(f"{name}.md").write_text(card(name, files), encoding="utf-8")


if __name__ == "__main__":
    main()
