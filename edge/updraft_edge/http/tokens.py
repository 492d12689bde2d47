"""`/tokenize`, `/detokenize` and `/tokenizer_info` as vLLM has them: clients that cut prompts into tokens themselves,
such as lm-evaluation-harness, then need no tokenizer of their own."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from updraft.generation import AgentView
from updraft_edge.http.body import decode_json, read_body
from updraft_edge.http.fields import invalid_field
from updraft_edge.http.plan import no_model

__all__ = ["token_routes"]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    model: str | None = None


class TokenizeBody(_Body):
    prompt: str
    add_special_tokens: bool = True


class DetokenizeBody(_Body):
    tokens: list[int] = Field(max_length=1_000_000)


Body = TypeVar("Body", bound=_Body)


def token_routes(agent: AgentView, body_limit_bytes: int) -> list[Route]:
    """The three paths. Token ids outside the vocabulary and texts that are not Unicode are refused with 400."""

    async def body(request: Request, kind: type[Body]) -> Body:
        data = decode_json(await read_body(request.scope, request.receive, body_limit_bytes))
        try:
            read = kind.model_validate(data)
        except ValidationError as error:
            raise invalid_field(error) from None
        if read.model is not None and read.model != agent.model:
            raise no_model(read.model, agent.model)
        return read

    async def tokenize(request: Request) -> Response:
        read = await body(request, TokenizeBody)
        tokens = agent.encode(read.prompt, start=read.add_special_tokens, special=True)
        found: dict[str, Any] = {"tokens": tokens, "count": len(tokens), "max_model_len": agent.context}
        return JSONResponse(found)

    async def detokenize(request: Request) -> Response:
        read = await body(request, DetokenizeBody)
        return JSONResponse({"prompt": b"".join(map(agent.piece, read.tokens)).decode("utf-8", "replace")})

    async def info(request: Request) -> Response:
        return JSONResponse(agent.tokenizer_info())

    return [
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        Route("/tokenizer_info", info),
    ]
