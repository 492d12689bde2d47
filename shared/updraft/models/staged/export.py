"""Exports a model as a staged ONNX folder: trunk stages, exits after some of them, one output matrix for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from updraft.errors import BadModelFile, ConfigError, InvalidRequest
from updraft.models.rungs import Rung, read_rung
from updraft.models.staged.builder import GRAPH_FILE, Job, Precision, block_job, build, require_builder, trunk_job
from updraft.models.staged.cut import cut_exit, cut_trunk, set_accuracy, share_embedding
from updraft.models.staged.disk import publish, scratch_beside
from updraft.models.staged.exact import pad_attention
from updraft.models.staged.graph import Graph, Piece, read_graph
from updraft.models.staged.graph_check import check_folder
from updraft.models.staged.hf_folder import write_block
from updraft.models.staged.interface import Sizes, value_shape
from updraft.models.staged.manifest import (
    ExitPart,
    HeadPart,
    Manifest,
    StagePart,
    describe_file,
    with_fingerprint,
    write_manifest,
)
from updraft.models.staged.source import Source, Tokenizer, open_source
from updraft.models.staged.tokenizer_file import read_json
from updraft.models.staged.write import write_pieces
from updraft.models.weights import BLOCK_SUFFIXES

__all__ = ["export_staged"]

Progress = Callable[[str], None]
_HEADS = "head."


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be made: the layers that begin a new stage, and the exits by that layer."""

    source: Source
    cuts: tuple[int, ...]
    exits: dict[int, Rung]
    precision: Precision
    accuracy: Literal[1, 4]
    exact: bool
    wide_head: bool


def export_staged(
    source: Path,
    target: Path,
    *,
    rungs: Sequence[Path] = (),
    cuts: Sequence[int] = (),
    precision: Precision = "int4",
    accuracy_level: Literal[1, 4] = 4,
    exact: bool = True,
    head_bits: Literal[4, 8] = 8,
    progress: Progress | None = None,
) -> Manifest:
    """Make a staged model folder; it appears whole or not at all.

    Args:
        source: a llama-architecture GGUF, or a Hugging Face folder of any architecture that the builder supports.
        target: the folder to make; must not exist.
        rungs: files of trained exits, by ascending layer.
        cuts: further layers at which a stage ends, without an exit.
        precision: of the weights.
        accuracy_level: 1 computes products in float32, so that results do not depend on how tokens are cut into runs
            beyond rounding; 4 rounds activations to int8: two to three times as fast.
        exact: pad attention, so that results are the same to the last bit however tokens are cut into runs, at some
            per cent of speed. Products at accuracy level 1 depend on the cut anyway, so it is left out there.
        head_bits: of the output matrix (and the embedding, where the two are tied) of an int4 model. 8, which llama.cpp
            takes for its 4-bit files, too, is closer to the original than 4, and twice as large.
        progress: called with a line of text for each step.

    Raises:
        ModelNotFound, BadModelFile: the source or a rung cannot be used, or the architecture cannot be cut.
        InvalidRequest: layers out of range, unordered or named twice, or a rung that is no exit.
        WrongTrunk: a rung was trained on another model.
        ConfigError: the target exists or cannot be written, or the disk is full.
        MissingExtra: the builder is not installed.
    """
    require_builder()
    source, target = Path(source), Path(target)
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} exists already", remedy="Remove it, or name another folder.")
    read = [read_rung(Path(rung)) for rung in rungs]
    plan = _plan(open_source(source), read, cuts, precision, accuracy_level)
    plan = replace(plan, exact=exact and plan.exact, wide_head=precision == "int4" and head_bits == 8)
    with scratch_beside(target, plan.source.room) as scratch:
        made = scratch / "made"
        made.mkdir()
        manifest = _make(plan, scratch, made, progress or (lambda _: None))
        publish(made, target)
    return manifest


def _plan(
    source: Source,
    rungs: Sequence[Rung],
    cuts: Sequence[int],
    precision: Precision,
    accuracy: Literal[1, 4],
) -> _Plan:
    for rung in rungs:
        if rung.kind != "exit":
            raise InvalidRequest(f"a {rung.kind} is not an exit; only exits become stages", param="rung")
        if source.weights is None:
            raise BadModelFile(f"{source.name} is not of the llama architecture, which exits are trained for")
        rung.check_trunk(source.weights)
    places = [rung.layer for rung in rungs]
    if places != sorted(set(places)) or list(cuts) != sorted(set(cuts)) or set(places) & set(cuts):
        raise InvalidRequest(f"the layers {places} and {list(cuts)} are not ascending, each once", param="rung")
    if source.layers is not None:
        _check_layers([*places, *cuts], source.layers)
    exits = dict(zip(places, rungs, strict=True))
    level: Literal[1, 4] = 1 if precision == "fp32" else accuracy
    exact = precision == "fp32" or level == 4
    return _Plan(source, tuple(sorted([*places, *cuts])), exits, precision, level, exact, wide_head=False)


def _check_layers(places: Sequence[int], layers: int) -> None:
    for place in places:
        if not 1 <= place < layers:
            raise InvalidRequest(
                f"a stage cannot end at layer {place} of {layers}; 1 to {layers - 1} can", param="rung"
            )


def _make(plan: _Plan, scratch: Path, made: Path, say: Progress) -> Manifest:
    say(f"Reading {plan.source.name}")
    folder, config = plan.source.folder(scratch)
    jobs = [
        trunk_job(folder, scratch / "trunk", plan.cuts, wide_head=plan.wide_head),
        *_block_jobs(plan, config, scratch),
    ]
    build(jobs, plan.precision, progress=say)
    say("Cutting the graph")
    sizes = _sizes(jobs[0].target)
    trunk, exits = _pieces(plan, config, sizes, [read_graph(job.target / GRAPH_FILE) for job in jobs])
    external = write_pieces(made, trunk, exits, lambda name: value_shape(name, sizes))
    _write_heads(plan, made)
    manifest = _manifest(plan, sizes, str(config.get("model_type")), external, plan.source.tokenizer(made), made)
    write_manifest(made, manifest)
    say("Checking what was made")
    return check_folder(made)


def _block_jobs(plan: _Plan, config: dict[str, Any], scratch: Path) -> list[Job]:
    jobs = []
    for layer, rung in plan.exits.items():
        folder = scratch / f"block{layer}"
        write_block(config, {s: rung.tensors[f"layers.{layer}.{s}"] for s in BLOCK_SUFFIXES}, rung.norm, folder)
        jobs.append(block_job(folder, scratch / f"exit{layer}"))
    return jobs


def _sizes(built: Path) -> Sizes:
    """The sizes that the builder found, whatever the architecture calls them."""
    model = read_json(built / "genai_config.json")["model"]
    decoder = model["decoder"]
    return Sizes(
        layers=int(decoder["num_hidden_layers"]),
        width=int(decoder["hidden_size"]),
        heads=int(decoder["num_attention_heads"]),
        kv_heads=int(decoder["num_key_value_heads"]),
        head_size=int(decoder["head_size"]),
        vocabulary=int(model["vocab_size"]),
        context_length=int(model["context_length"]),
    )


def _pieces(
    plan: _Plan, config: dict[str, Any], sizes: Sizes, graphs: list[Graph]
) -> tuple[dict[str, Piece], dict[str, Piece]]:
    whole, *blocks = graphs
    share_embedding(whole, tied=bool(config.get("tie_word_embeddings")))
    stages, output = cut_trunk(whole, plan.cuts, sizes.layers)
    trunk = {f"stage{index}": piece for index, piece in enumerate(stages)} | {"output": output}
    exits = {f"exit{index}": cut_exit(graph) for index, graph in enumerate(blocks)}
    for piece in (*trunk.values(), *exits.values()):
        set_accuracy(piece, plan.accuracy)
        if plan.exact:
            pad_attention(piece, sizes.head_size)
    return trunk, exits


def _write_heads(plan: _Plan, made: Path) -> None:
    from safetensors.numpy import save_file

    for index, rung in enumerate(plan.exits.values()):
        heads = {name: values for name, values in rung.tensors.items() if name.startswith(_HEADS)}
        if heads:
            save_file(heads, made / _heads_file(index))


def _manifest(
    plan: _Plan,
    sizes: Sizes,
    architecture: str,
    external: Mapping[str, Sequence[str]],
    tokenizer: Tokenizer,
    made: Path,
) -> Manifest:
    edges = [0, *plan.cuts, sizes.layers]
    stages = [
        StagePart(file=f"stage{index}.onnx", first=first, last=last, external=tuple(external[f"stage{index}"]))
        for index, (first, last) in enumerate(pairwise(edges))
    ]
    exits = [
        ExitPart(
            stage=plan.cuts.index(layer),
            file=f"exit{index}.onnx",
            external=tuple(external[f"exit{index}"]),
            heads=_heads_file(index) if (made / _heads_file(index)).exists() else None,
            facts=dict(rung.facts),
        )
        for index, (layer, rung) in enumerate(plan.exits.items())
    ]
    vocabulary = tokenizer.vocabulary
    return with_fingerprint(
        {
            **asdict(sizes),
            "name": plan.source.name[:200],
            "architecture": architecture,
            "trunk_fingerprint": plan.source.fingerprint,
            "tokenizer_hash": vocabulary.tokenizer_hash,
            "tokenizer": tokenizer.file,
            "quantisation": plan.precision,
            "accuracy_level": plan.accuracy,
            "exact": plan.exact,
            "end_tokens": tuple(sorted(vocabulary.end_tokens)),
            "chat_template": vocabulary.chat_template,
            "stages": tuple(stages),
            "exits": tuple(exits),
            "head": HeadPart(file="output.onnx", external=tuple(external["output"])),
            "files": {path.name: describe_file(path) for path in sorted(made.iterdir())},
        }
    )


def _heads_file(index: int) -> str:
    return f"exit{index}_heads.safetensors"
