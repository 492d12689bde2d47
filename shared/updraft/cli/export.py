"""`updraft models export`."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import InvalidRequest

__all__ = ["register"]


class _Format(StrEnum):
    onnx = "onnx"
    gguf = "gguf"


class _Precision(StrEnum):
    int4 = "int4"
    int8 = "int8"
    fp32 = "fp32"


class _OutputType(StrEnum):
    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"


class _Quantisation(StrEnum):
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q8_0 = "Q8_0"
    F16 = "F16"


def register(group: typer.Typer) -> None:
    """Add the verb to the group `models`."""
    shown = examples(
        "updraft models export smollm2 ./staged --rung exit8.safetensors --rung exit16.safetensors",
        "updraft models export ./huggingface-folder ./staged --cut 16 --precision fp32",
        "updraft models export smollm2 small.gguf --to gguf --rung student.safetensors",
    )
    group.command("export", epilog=shown)(export)


@reported
def export(
    source: Annotated[
        str, typer.Argument(metavar="NAME|FILE|FOLDER", help="A known model, a GGUF, or a Hugging Face folder.")
    ],
    target: Annotated[Path, typer.Argument(help="Folder (onnx) or file (gguf) to make.")],
    to: Annotated[_Format, typer.Option("--to", help="A staged ONNX folder, or a GGUF of one rung.")] = _Format.onnx,
    rung: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A trained rung; for onnx any number of exits, lowest first."),
    ] = None,
    cut: Annotated[
        list[int] | None,
        typer.Option(metavar="LAYER", help="onnx: end a stage before this layer, too, without an exit."),
    ] = None,
    precision: Annotated[_Precision, typer.Option(help="onnx: of the weights.")] = _Precision.int4,
    accuracy: Annotated[
        int, typer.Option(help="onnx: 4 computes with activations in int8, 1 with float32: slower, and exact.")
    ] = 4,
    exact: Annotated[
        bool, typer.Option(help="onnx: the same bits however a text is cut into runs; costs some per cent of speed.")
    ] = True,
    head_bits: Annotated[
        int, typer.Option(help="onnx, int4: bits of the output matrix: 8, closer to the original, or 4, faster.")
    ] = 8,
    quantisation: Annotated[_Quantisation, typer.Option(help="gguf: type of the weights.")] = _Quantisation.Q4_0,
    output_type: Annotated[
        _OutputType,
        typer.Option(
            help="gguf: type of the output matrix, half of a shallow model's work; Q4_0 is faster, and rougher."
        ),
    ] = _OutputType.Q8_0,
    as_json: JsonOption = False,
) -> None:
    """Export a model in stages that can exit early, for ONNX Runtime, or one rung of its ladder as a GGUF.

    What is made appears whole or not at all.
    """
    from updraft.models import resolve

    if accuracy not in (1, 4):
        raise InvalidRequest(f"--accuracy is {accuracy}; it can be 1 or 4", param="accuracy")
    if head_bits not in (4, 8):
        raise InvalidRequest(f"--head-bits is {head_bits}; it can be 4 or 8", param="head_bits")
    started = time.perf_counter()
    path = resolve(source, progress=_say)
    if to is _Format.onnx:
        options = {"precision": precision.value, "accuracy_level": accuracy, "exact": exact, "head_bits": head_bits}
        record = _staged(path, target, rung or [], cut or [], options)
    else:
        record = _gguf(path, target, rung or [], cut or [], quantisation, output_type)
    record = {"path": str(target), **record, "seconds": round(time.perf_counter() - started, 1)}
    if as_json:
        print_json(record)
        return
    for name, value in record.items():
        typer.echo(f"{name.replace('_', ' '):<16} {value}")


def _staged(source: Path, target: Path, rungs: list[Path], cuts: list[int], options: dict[str, Any]) -> dict[str, Any]:
    from updraft.models.staged import export_staged

    manifest = export_staged(source, target, rungs=rungs, cuts=cuts, progress=_say, **options)
    return {
        "stages": ", ".join(f"{stage.first}-{stage.last - 1}" for stage in manifest.stages),
        "exits": ", ".join(str(manifest.stages[part.stage].last) for part in manifest.exits) or "none",
        "quantisation": manifest.quantisation,
        "accuracy_level": manifest.accuracy_level,
        "exact": manifest.exact,
        "weight_bytes": manifest.weight_bytes,
        "fingerprint": manifest.fingerprint,
    }


def _gguf(
    source: Path,
    target: Path,
    rungs: list[Path],
    cuts: list[int],
    quantisation: _Quantisation,
    output_type: _OutputType,
) -> dict[str, Any]:
    from updraft.models import read_model_info
    from updraft.models.rung_gguf import export_gguf
    from updraft.models.rungs import read_rung

    if len(rungs) != 1 or cuts:
        raise InvalidRequest(f"a GGUF is made of one rung and no cuts; {len(rungs)} rungs were given", param="rung")
    rung = read_rung(rungs[0])
    export_gguf(source, rung, target, quantisation=quantisation.value, output_type=output_type.value)
    info = read_model_info(target)
    return {
        "layers": info.layers,
        "quantisation": info.quantisation,
        "weight_bytes": info.weight_bytes,
        "fingerprint": info.fingerprint,
    }


def _say(line: str) -> None:
    stderr().print(line, markup=False, soft_wrap=True)
