"""A staged model folder, loaded: its graphs' sessions, its tokenizer, and what it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from updraft.engine.base import ModelInfo, StageInfo
from updraft.engine.checks import ContextOptions
from updraft.engine.onnx_head import OutputMatrix
from updraft.engine.onnx_native import library, load_session
from updraft.engine.onnx_part import Graph
from updraft.engine.onnx_tokenizer import StagedTokenizer, load_tokenizer
from updraft.engine.staged_checks import check_split, loaded_stages
from updraft.errors import ConfigError
from updraft.exits.carry import Carry
from updraft.models.staged import Manifest, check_folder

__all__ = ["StagedModel", "load_model"]


@dataclass(frozen=True, slots=True)
class StagedModel:
    """What an engine keeps for as long as it lives.

    Attributes:
        graphs: the loaded stages from the bottom.
        exits: for each of them the exit at its end, or None.
    """

    manifest: Manifest
    stages: tuple[StageInfo, ...]
    graphs: Sequence[Graph]
    exits: Sequence[Graph | None]
    head: OutputMatrix
    tokenizer: StagedTokenizer
    weight_bytes: int

    def info(self, name: str | None) -> ModelInfo:
        manifest = self.manifest
        return ModelInfo(
            name=name or manifest.name,
            architecture=manifest.architecture,
            layers=manifest.layers,
            width=manifest.width,
            vocabulary=manifest.vocabulary,
            context_length=manifest.context_length,
            weight_bytes=self.weight_bytes,
            quantisation=manifest.quantisation,
            fingerprint=manifest.fingerprint,
            tokenizer_hash=manifest.tokenizer_hash,
            end_tokens=frozenset(manifest.end_tokens) | self.tokenizer.end_tokens(),
            chat_template=manifest.chat_template,
        )

    def shutdown(self) -> None:
        self.tokenizer.shutdown()


def load_model(
    folder: Path, options: ContextOptions, *, last_stage: int | None, split: int | None, carry: Carry
) -> StagedModel:
    """Check a folder whole, then load the stages up to `last_stage`.

    Raises:
        ModelError: the folder or a file in it is missing or not what it must be.
        ConfigError: an option is out of range for this model.
        MissingExtra: onnxruntime, onnx or the tokenizer's library is not installed.
    """
    library()
    manifest = check_folder(folder)
    if options.gpu_layers != 0:
        raise ConfigError("the ONNX engine computes on the CPU", remedy="Set gpu_layers to 0.")
    spare = int(manifest.exact)  # the row by which exact attention is padded has a position, too
    options.check(manifest.context_length - spare)
    blocks: dict[int, int] = {part.stage: part.blocks for part in manifest.exits}
    count = loaded_stages(len(manifest.stages), last_stage, blocks)
    check_split(count, len(manifest.stages), split, carry)
    stages = tuple(
        StageInfo(part.first, part.last, blocks.get(stage, 0)) for stage, part in enumerate(manifest.stages[:count])
    )
    files = {part.stage: part.file for part in manifest.exits}
    used = _files(manifest, count)
    head = OutputMatrix(load_session(folder / manifest.head.file, options.threads), manifest.width, manifest.vocabulary)

    def graph(file: str) -> Graph:
        session = load_session(folder / file, options.threads)
        return Graph(
            session, heads=manifest.kv_heads, head_size=manifest.head_size, spare=int(getattr(manifest, "exact", False))
        )

    return StagedModel(
        manifest,
        stages,
        [graph(part.file) for part in manifest.stages[:count]],
        [graph(files[stage]) if stage in files else None for stage in range(count)],
        head,
        load_tokenizer(folder / manifest.tokenizer, manifest.vocabulary),
        sum(manifest.files[name].bytes for name in used),
    )


def _files(manifest: Manifest, count: int) -> set[str]:
    """Names of the files that the first `count` stages need."""
    stages = {name for part in manifest.stages[:count] for name in (part.file, *part.external)}
    exits = {name for part in manifest.exits if part.stage < count for name in (part.file, *part.external)}
    return stages | exits | {manifest.head.file, *manifest.head.external}
