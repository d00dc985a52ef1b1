"""Write the model cards of the bundled styles, from their manifests and the figures in benchmarks/results.

python benchmarks/cards.py
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import count
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
- Machine: one core for each run of a 2-core Intel Xeon with AMX, in the last runs of a 2-core AMD EPYC (both for a
  run of six), bf16, shared with other work.

## Commands

`PHOTOS` is the folder of photographs. First a teacher of the reference size for every style, and its pictures of
all photos. The teacher of starry_night took 712 steps; the others began with its 240th step and took 134 to 240:

```sh
stylesdk train starry_night.jpg --photos PHOTOS -o runs/t_starry_night --stage teacher --minutes 6 --set tick=240
cp -r runs/t_starry_night runs/t_240  # while it trains, when it has saved its 240th step
stylesdk train STYLE.jpg --photos PHOTOS -o runs/t_STYLE --start runs/t_240 --stage teacher --minutes 6
stylesdk export runs/t_STYLE -o teachers --precision fp32
stylesdk run PHOTOS -s teachers/STYLE.onnx -o PICTURES/STYLE
```

Then, each run beginning with the one before:

{commands}

Runs were bounded by `--minutes`; the steps behind each line are what these gave, fewer where a run was stopped. Runs
with `learning_rate=0.001`, and those of the stages before them, were made with Adam, before Muon came. The trainer
has changed while these files were made (CONTRIBUTING.md, Decisions). In the last runs of all but starry_night.nano it
was what it is now, but for the normalisation, which settles in the last run of starry_night, the last two of
composition_vii, three of shipwreck and wave.nano, five of the_scream and udnie, seven of six, nine of wave; in the
`base` files in the last runs of six that they go back to, and in all after them. In the others the network was shown 32
pixels around a crop, and noise was white; in earlier runs half of each batch had a border. What is named `n_...`, and
gc_wave, ad_the_scream and ae_six, were brought back from the files that shipped before (`stylesdk import`).

## Figures

{figures}

On a GPU (TensorRT, CUDA graph): not measured; `python benchmarks/gpu_check.py` measures it.

## Limits

- Strokes have one size in pixels: on 1080p they look finer than on 480p.
- One scan, one palette: the photo's colours are replaced; `--keep-color` keeps them.
- In the middle of a large frame the loss is *in a larger one* times that of the small photos measured here: above 1
  a style is weaker there than near a frame's edge, below 1 stronger.
- Heavily compressed video shows its blocks in the strokes. Large even areas are filled
  with one mark again and again (most in udnie and composition_vii) or get less texture than the painting has.
{missed}
"""


def results(name: str) -> dict[str, Any]:
    """A report of benchmarks/results, empty where it has not been made."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def command(training: dict[str, Any], name: str, start: str | None) -> str:
    """The line that does a training again, from the settings that a manifest carries."""
    minutes, steps = training.get("minutes"), training.get("result", {}).get("step")
    stage = "distill" if training.get("pictures") else "teacher" if training["generator"] == "johnson" else "finish"
    words = ["stylesdk", "train", *training["artworks"], "--photos", "PHOTOS", "-o", f"runs/{name}"]
    words += ["--many"] if len(training["styles"]) > 1 else []
    words += [w for folder in training["pictures"] for w in ("--pictures", f"PICTURES/{folder}")]
    words += ["--start", f"runs/{start}"] if start else []
    words += ["--generator", training["generator"]] if training["generator"] != "realtime" else []
    words += ["--size", training["generator_options"]["size"]] if training["generator_options"] else []
    words += ["--stage", stage, *(["--minutes", f"{minutes:g}"] if minutes else ["--steps", str(steps)])]
    words += ["--seed", str(training["seed"])] if training["seed"] else []
    usual = vars(TrainConfig((), "", "")) | settings_from_toml(STAGES / f"{stage}.toml")
    other = {k: v for k, v in training.items() if k not in PLACES | COMMAND and k in usual and v != usual[k]}
    other.pop("precision", None)  # auto finds it
    words += [w for k, v in sorted(other.items()) for w in ("--set", f"{k}={json.dumps(v)}")]
    return f"{shlex.join(words)}  # {steps} steps of {training['batch']}"


def history(file: Style, bundled: Collection[str]) -> list[str]:
    """The commands of all runs that led to a file, first to last.

    The name of a bundled file is that of its last run, in all cards; an earlier run of that name gets a number.
    """
    records, names = [file.manifest.training], [file.name]
    while before := records[-1].get("before"):
        start, taken = records[-1]["start"], {*bundled, *names}
        free = (name for n in count() if (name := f"{start}_{n}" if n else start) not in taken)
        records, names = [*records, before], [*names, next(free)]
    starts = [*names[1:], records[-1].get("start")]
    return [command(*run) for run in zip(records, names, starts, strict=True)][::-1]


def precisions(file: Style, files: Sequence[Style]) -> list[str]:
    """In which precisions an fp32 file is shipped."""
    return [f.manifest.precision for f in files if f.name.removesuffix(".int8") == file.name]


def commands(files: Sequence[Style], bundled: Collection[str]) -> list[str]:
    """All runs that led to these files, first to last, and their exports."""
    lines: list[str] = []
    for file in (f for f in files if f.manifest.precision == "fp32"):
        usual = file.name if len(file.manifest.styles) > 1 else Path(file.manifest.training["artworks"][0]).stem
        words = ["stylesdk", "export", f"runs/{file.name}", "-o", "models", "--photos", "PHOTOS"]
        words += ["--name", file.name] if file.name != usual else []
        words += [word for precision in precisions(file, files) for word in ("--precision", precision)]
        lines += [*history(file, bundled), shlex.join(words)]
    return ["```sh", *dict.fromkeys(lines), "```"]


def missed(labels: Collection[str]) -> list[str]:
    """What was asked of these models and does not hold."""
    asked = [line for name in ("quality", "temporal", "latency") for line in results(name).get("requirements", [])]
    wanted = [line for line in asked if line["what"].partition(": ")[0].split()[0].removesuffix(".int8") in labels]
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
        "in a larger one": f"{quality['in_larger']:.2f}x" if "in_larger" in quality else "",
        "grid": f"{quality['grid']:.3f}" if quality else "",
        "border": f"{quality['border']:.2f}" if quality else "",
        "halo, of 255": f"{quality['halo']:.1f}" if "halo" in quality else "",
        "edge SSIM": f"{quality['edges']:.2f}" if quality else "",
        "int8, mean of 255": f"{int8['mean']:.2f}" if int8 else "",
        "warping, worst clip": f"{max(clip['short'] for clip in seen):.2f}x" if seen else "",
        "noise, worst clip": f"{max(clip['noise'] for clip in seen):.2f}x" if seen else "",
    }


def latencies(file: Style, shipped: Collection[str]) -> list[str]:
    """Rows of the latency table, one a shipped precision and runtime."""
    size = file.manifest.training["generator_options"]["size"]
    several = len(file.manifest.styles) > 1
    measured = file.name if several else {"small": "starry_night"}.get(size, f"starry_night.{size}")
    rows = []
    for label, entry in results("latency").get("models", {}).items():
        model, precision, runtime = label.split(maxsplit=2)
        if model == measured and precision in shipped:
            times, total = entry["times_faster"], entry["milliseconds"]["total"]
            rows.append(
                f"| {file.name if several else size}, {precision} file on {runtime} | {entry['backend']} | "
                f"{total['p50']:.1f} ms | {total['p99']:.1f} ms | {f'{times:.1f}x' if times else ''} |"
            )
    return rows


def latency_table(name: str, files: Sequence[Style]) -> list[str]:
    """What the files of a card cost, and on which machine; nothing where nothing was measured."""
    fp32 = [f for f in files if f.manifest.precision == "fp32"]
    rows = [row for file in fp32 for row in latencies(file, precisions(file, files))]
    if not rows:
        return []
    report = results("latency")
    where = f"{report['threads']} threads on {report['machine']['cores']} cores of {report['machine']['processor']}"
    same = name == "starry_night" or len(fp32[0].manifest.styles) > 1
    measured = "" if same else ", measured on starry_night, whose networks have the same shapes"
    return [
        "",
        f"Latency at {report['size']} with {where}{measured} (`{report['command']}`). The precision that OpenVINO "
        "names is for what a file has in floating point; the convolutions of an int8 file are in 8 bits.",
        "",
        "| file, runtime | ran on | p50 | p99 | times the reference |",
        "|---|---|---|---|---|",
        *rows,
    ]


def card(name: str, files: Sequence[Style], bundled: Collection[str]) -> str:
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
    table += ["", *sources, *latency_table(name, files)]
    labels = {f"{f.name}:{style}" for f in fp32 for style in several} | {f.name for f in fp32}
    texts = {"files": rows, "commands": commands(files, bundled), "figures": table, "missed": missed(labels)}
    return CARD.format(name=name, subject=subject, **{key: "\n".join(lines) for key, lines in texts.items()})


def cards() -> dict[Path, str]:
    """The text of every card, by its file."""
    found = styles()
    by_style: dict[str, list[Style]] = defaultdict(list)
    for entry in found:
        by_style[entry.name.split(".")[0]].append(entry)
    bundled = {entry.name for entry in found}
    return {files[0].path.with_name(f"{name}.md"): card(name, files, bundled) for name, files in by_style.items()}


def main() -> None:
    """Write STYLE.md beside the files of every style."""
    for path, text in cards().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
