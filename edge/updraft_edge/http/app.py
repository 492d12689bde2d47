"""Puts the HTTP server together: its paths, and what each of them answers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from updraft.generation import AgentView
from updraft.modes import ModeSettings
from updraft_edge.http.body import ClientGone, decode_json, read_body
from updraft_edge.http.choices import Follower, while_connected
from updraft_edge.http.echo import PromptScores
from updraft_edge.http.errors import Refused, http_exception
from updraft_edge.http.gate import Admission, Gate
from updraft_edge.http.openai_format import AnswerFormat, ChatFormat, CompletionFormat
from updraft_edge.http.plan import Plan, Planner, chat_plan, completion_plan, no_model
from updraft_edge.http.streaming import send_stream, send_whole
from updraft_edge.http.tokens import token_routes
from updraft_edge.metrics import EdgeMetrics

__all__ = ["create_app"]


def create_app(
    agent: AgentView,
    *,
    body_limit_bytes: int,
    max_concurrent: int,
    token: str | None = None,
    metrics: EdgeMetrics | None = None,
    defaults: ModeSettings | None = None,
) -> Starlette:
    """The agent's HTTP server as an ASGI application.

    Args:
        agent: writes the answers.
        body_limit_bytes: longest request body.
        max_concurrent: requests answered at once; one more gets 429 before any work is done for it.
        token: bearer token asked for on every path but the health checks. Without it, only loopback hosts and
            pages are served on loopback.
        metrics: what `/metrics` renders; without it there is no such path.
        defaults: settings over which a request's `updraft` object is laid; the agent's own default mode.
    """
    admission = Admission(max_concurrent)
    chat = _Answers(agent, chat_plan, ChatFormat, admission, body_limit_bytes, defaults)
    completions = _Answers(agent, completion_plan, CompletionFormat, admission, body_limit_bytes, defaults)
    pages = _Pages(agent)
    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/embeddings", pages.embeddings, methods=["POST"]),
        Route("/v1/models", pages.models),
        Route("/v1/models/{name:path}", pages.model),
        *token_routes(agent, body_limit_bytes),
        Route("/v1/info", pages.info),
        Route("/version", pages.version),
        Route("/healthz", pages.health),
        Route("/health", pages.health),
        Route("/readyz", pages.ready),
    ]
    if metrics is not None:
        routes.append(Route("/metrics", _rendered(metrics)))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Gate, token=token)],
        exception_handlers={HTTPException: http_exception},
    )
    app.router.redirect_slashes = False
    return app


class _Answers:
    """An endpoint that generates: admission, body, plan, then the answer for as long as the client listens."""

    def __init__(
        self,
        agent: AgentView,
        planner: Planner,
        form: type[AnswerFormat],
        admission: Admission,
        body_limit_bytes: int,
        defaults: ModeSettings | None,
    ) -> None:
        self._agent = agent
        self._planner = planner
        self._form = form
        self._admission = admission
        self._body_limit_bytes = body_limit_bytes
        self._defaults = defaults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._agent.ready:
            raise _not_ready()
        try:
            with self._admission:
                data = decode_json(await read_body(scope, receive, self._body_limit_bytes))
                plan = self._planner(data, self._agent.model, self._defaults)
                await while_connected(receive, self._answer(plan, scope, receive, send))
        except ClientGone:
            return

    async def _answer(self, plan: Plan, scope: Scope, receive: Receive, send: Send) -> None:
        form = self._form(plan, self._agent)
        with contextlib.ExitStack() as stack:
            generator: Follower = self._agent
            if plan.echo and (plan.logprobs or not plan.write):
                generator = stack.enter_context(contextlib.closing(PromptScores(self._agent, write=plan.write)))
            if plan.stream:
                await send_stream(generator, plan, form, send)
            else:
                await send_whole(generator, plan, form, scope, receive, send)


class _Pages:
    """The endpoints that only tell something."""

    def __init__(self, agent: AgentView) -> None:
        self._agent = agent
        self._created = int(time.time())

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._agent.model:
            raise no_model(name, self._agent.model)
        return JSONResponse(self._model())

    def _model(self) -> dict[str, object]:
        return {
            "id": self._agent.model,
            "object": "model",
            "created": self._created,
            "owned_by": "updraft",
            "max_model_len": self._agent.context,  # vLLM's name for it
        }

    async def info(self, request: Request) -> Response:
        return JSONResponse(self._agent.info())

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": self._agent.info()["version"]})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        if self._agent.ready:
            return JSONResponse({"status": "ready"})
        raise _not_ready()

    async def embeddings(self, request: Request) -> Response:
        raise Refused(501, "not_supported", "Embeddings are not served; use a server with an embedding model.")


def _not_ready() -> Refused:
    return Refused(503, "not_ready", "The agent is starting or stopping; try again in a moment.")


def _rendered(metrics: EdgeMetrics) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        return Response(metrics.render(), headers={"content-type": metrics.content_type})

    return page
