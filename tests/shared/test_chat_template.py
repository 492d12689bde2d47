from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.chat_template import ROLES, ChatTemplate
from updraft.errors import InvalidRequest, RequestTooLarge
from updraft.models import read_model_info

HELLO = [{"role": "user", "content": "Hello"}]


def test_chatml_is_the_default() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    assert ChatTemplate(None).render(messages) == text + "<|im_start|>assistant\n"
    assert ChatTemplate(None).render(messages, add_generation_prompt=False) == text


def test_bos_and_eos_are_known_to_the_template() -> None:
    source = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    assert ChatTemplate(source, bos="<s>", eos="</s>").render(HELLO) == "<s>Hello</s>"


def test_blocks_take_their_lines_with_them() -> None:
    source = "{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\n"
    assert ChatTemplate(source).render(HELLO) == "Hello\n"


def test_content_is_not_a_template() -> None:
    text = ChatTemplate(None).render([{"role": "user", "content": "{{ 7 * 7 }}{% raw %}"}])
    assert "{{ 7 * 7 }}{% raw %}" in text


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.sampled_from(sorted(ROLES)), TEXT), min_size=1))
def test_every_message_stands_in_the_prompt_in_order(turns: list[tuple[str, str]]) -> None:
    text = ChatTemplate(None).render([{"role": role, "content": content} for role, content in turns])
    for role, content in turns:
        block = f"<|im_start|>{role}\n{content}<|im_end|>\n"
        assert text.startswith(block)
        text = text[len(block) :]


def test_tojson_does_not_escape_for_html() -> None:
    assert ChatTemplate("{{ messages[0].content | tojson }}").render([{"role": "tool", "content": "<é>"}]) == '"<é>"'


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "0 messages"),
        ([{"role": "user", "content": ""}] * 4097, "4097 messages"),
        ([{"role": "robot", "content": "a"}], r"messages\[0\].role is 'robot'"),
        ([{"content": "a"}], "role is None"),
        ([*HELLO, {"role": "user"}], r"messages\[1\].content is NoneType"),
        ([{"role": "user", "content": 5}], "content is int"),
        ([{"role": "user", "content": [{"type": "text"}]}], "content is list"),
        ([{"role": ["user"], "content": "a"}], "role is"),
        ([{"role": "user", "content": "ab\udc00"}], "index 2"),
        (["user"], "must be an object"),
    ],
)
def test_bad_messages_are_refused(messages: list[dict[str, str]], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        ChatTemplate(None).render(messages)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% include 'other' %}",
        "{{ range(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 1000000000 * 'a' }}",
        "{{ [0] * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ messages[0].content.no_such.field }}",
        "{{ raise_exception('only one turn') }}",
        "{{ strftime_now('%Y') }}",
        "{{ 1 / 0 }}",
    ],
)
def test_templates_cannot_break_out_or_fill_the_memory(source: str) -> None:
    with pytest.raises(InvalidRequest, match="chat template"):
        ChatTemplate(source).render(HELLO)


@pytest.mark.parametrize("source", ["{{ messages.__class__ }}", "{{ raise_exception.__globals__ }}", "{{ tools }}"])
def test_what_a_template_may_not_see_is_empty(source: str) -> None:
    assert ChatTemplate(source).render(HELLO) == ""


def test_the_templates_own_message_is_given() -> None:
    with pytest.raises(InvalidRequest, match="only one turn") as caught:
        ChatTemplate("{{ raise_exception('only one turn') }}").render(HELLO)
    assert caught.value.param == "messages"


@pytest.mark.parametrize("source", ["{% for", "{{ 'a' | center(9) }}", "{{ 'a' | no_such_filter }}", "a" * 300_000])
def test_bad_templates_are_refused_when_loaded(source: str) -> None:
    with pytest.raises(InvalidRequest, match="chat template"):
        ChatTemplate(source)


def test_output_is_bounded() -> None:
    source = "{% for i in range(1000) %}{{ messages[0].content }}{% endfor %}"
    with pytest.raises(RequestTooLarge, match="8388608"):
        ChatTemplate(source).render([{"role": "user", "content": "a" * 10_000}])


@pytest.mark.smollm2
def test_smollm2s_template(smollm2_path: Path) -> None:
    text = ChatTemplate(read_model_info(smollm2_path).chat_template).render(HELLO)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
