"""From a request to the start of its answer: template, tokens, and the checks against the edge's model."""

from __future__ import annotations

from updraft.chat_template import ChatTemplate
from updraft.engine import Engine
from updraft.errors import InvalidRequest, PromptTooLong
from updraft.generation import GenerationRequest
from updraft.token_log import TokenLog
from updraft_edge.answer import Answer

__all__ = ["Intake"]


class Intake:
    """Takes requests in.

    Args:
        most: longest answer where a request names none, tokens.
    """

    def __init__(self, engine: Engine, *, most: int) -> None:
        self._engine = engine
        self._most = most
        self._template = ChatTemplate(engine.info.chat_template, bos="", eos="")

    def begin(self, request: GenerationRequest, started: float) -> Answer:
        """Start the answer to a request.

        Raises PromptTooLong or InvalidRequest where the model cannot take it.
        """
        engine = self._engine
        prompt = self._prompt_tokens(request)
        if not prompt:
            raise InvalidRequest("The prompt is empty.", param="prompt")
        if len(prompt) >= engine.context:
            raise PromptTooLong(
                f"The prompt has {len(prompt)} tokens; the edge's context holds {engine.context}.", param="prompt"
            )
        if request.sampling.logit_bias and max(request.sampling.logit_bias) >= engine.info.vocabulary:
            raise InvalidRequest(
                f"logit_bias names token {max(request.sampling.logit_bias)}; "
                f"the vocabulary has {engine.info.vocabulary}.",
                param="logit_bias",
            )
        return Answer(
            TokenLog(prompt),
            engine.tokenizer,
            ends=frozenset() if request.ignore_end else engine.info.end_tokens,
            stop=request.stop,
            most=min(request.max_tokens or self._most, engine.context - len(prompt)),
            started=started,
        )

    def _prompt_tokens(self, request: GenerationRequest) -> list[int]:
        engine = self._engine
        if request.prompt_tokens is not None:
            tokens = list(request.prompt_tokens)
            bad = [token for token in tokens if not 0 <= token < engine.info.vocabulary]
            if bad:
                raise InvalidRequest(
                    f"The prompt holds token {bad[0]}; the vocabulary has {engine.info.vocabulary}.",
                    param="prompt",
                )
            return tokens
        if request.messages is not None:
            messages = [{"role": message.role, "content": message.content} for message in request.messages]
            return engine.tokenizer.encode(self._template.render(messages), special=True)
        return engine.tokenizer.encode(request.prompt or "", start=True)
