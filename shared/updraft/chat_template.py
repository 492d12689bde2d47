"""A model's chat template, rendered in a sandbox: templates come with model files, and model files from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from updraft.errors import InvalidRequest, RequestTooLarge

__all__ = ["CHATML", "ROLES", "ChatTemplate"]

ROLES = frozenset({"system", "user", "assistant", "tool"})
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MAX_TEMPLATE_BYTES = 256 << 10
_MAX_PROMPT_BYTES = 8 << 20
_MAX_MESSAGES = 4096
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})


class ChatTemplate:
    """Messages to the text that a model was trained on.

    Args:
        template: Jinja source from the model file; ChatML when there is none.
        bos: what the template calls `bos_token`.
        eos: what the template calls `eos_token`.

    Raises:
        InvalidRequest: the template is too long or not valid Jinja.
    """

    def __init__(self, template: str | None, bos: str = "", eos: str = "") -> None:
        source = template or CHATML
        if len(source.encode("utf-8", "surrogatepass")) > _MAX_TEMPLATE_BYTES:
            raise InvalidRequest(f"the chat template is over {_MAX_TEMPLATE_BYTES} bytes")
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
        environment.globals["raise_exception"] = _raise_exception
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(source)
        except (TemplateError, RecursionError) as error:
            raise InvalidRequest(f"the model's chat template is not valid: {error}") from None
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The prompt for `messages`, each with `role` and `content`.

        Args:
            messages: 1 to 4096; roles are system, user, assistant and tool.
            add_generation_prompt: end with the start of the assistant's turn.

        Raises:
            InvalidRequest: no messages, an unknown role, content that is not text, or the template refuses them.
            RequestTooLarge: the prompt would be over 8 MiB.
        """
        checked = _checked(messages)
        parts, size = [], 0
        try:
            for part in self._template.generate(
                messages=checked, add_generation_prompt=add_generation_prompt, **self._tokens
            ):
                size += len(part.encode("utf-8"))
                if size > _MAX_PROMPT_BYTES:
                    raise RequestTooLarge(f"the prompt is over {_MAX_PROMPT_BYTES} bytes", param="messages")
                parts.append(part)
        except InvalidRequest:
            raise
        except Exception as error:  # a template is a program: it can fail in any way
            raise InvalidRequest(
                f"the model's chat template does not accept these messages: {error}", param="messages"
            ) from None
        return "".join(parts)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without the ways to fill the memory in one step."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("center", "format", "wordwrap", "xmlattr"):
            del self.filters[name]

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Neither methods that pad a text to any width."""
        return attr not in _PADDING and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """Refuse `text.format`: a width in it makes a text of any length."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("str.format is not allowed")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse repetition that would be over the prompt's limit, powers, and formats with widths."""
        if operator == "**":
            raise TemplateError("powers are not allowed")
        if operator == "%" and isinstance(left, str):
            raise TemplateError("% on text is not allowed")
        if operator == "*":
            times = [value for value in (left, right) if isinstance(value, int)]
            sized = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
            if sized and times and sized[0] * times[0] > _MAX_PROMPT_BYTES:
                raise TemplateError("a repetition is over the prompt's limit")
            if len(times) == 2 and times[0].bit_length() + times[1].bit_length() > 256:
                raise TemplateError("a product is too large")
        return super().call_binop(context, operator, left, right)


def _checked(messages: Sequence[object]) -> list[dict[str, str]]:
    if not 1 <= len(messages) <= _MAX_MESSAGES:
        raise InvalidRequest(f"{len(messages)} messages; there must be 1 to {_MAX_MESSAGES}", param="messages")
    checked = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise InvalidRequest(f"{where} is {type(message).__name__}; it must be an object", param=where)
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest(f"{where}.role is {role!r}; it must be one of {', '.join(sorted(ROLES))}", param=where)
        if not isinstance(content, str):
            raise InvalidRequest(f"{where}.content is {type(content).__name__}; it must be text", param=where)
        try:
            content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{where}.content is not valid Unicode: lone surrogate at index {error.start}", param=where
            ) from None
        checked.append({"role": role, "content": content})
    return checked


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, **_options: Any) -> str:
    """Plain JSON: the web framework's `tojson` would escape <, > and &."""
    return json.dumps(value, ensure_ascii=False)
