"""Detectors, limits and the guard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.rules.secrets import CARDS, EMAILS, KEYS, luhn
from tests.fakes.byte_engine import ByteTokenizer
from updraft.config import EdgeSettings, LimitSettings, PriceSettings, RulesSettings
from updraft.errors import ConfigError, Withheld
from updraft.generation import Statistics
from updraft.token_log import TokenLog
from updraft_edge.rules.detectors import Detectors, iban_holds, luhn_holds
from updraft_edge.rules.guard import Guard, Rules
from updraft_edge.rules.ledger import Ledger, Spending

ALL = Detectors(RulesSettings(keep_local=("keys", "cards", "emails", "ibans", "phones")))
PROSE = st.text("abcdefghij klmno,\n", max_size=40)


@given(PROSE, KEYS, PROSE)
def test_keys_are_found_wherever_they_stand(before: str, key: str, after: str) -> None:
    assert ALL.find(f"{before} {key} {after}") == "keys"


@given(PROSE, CARDS, PROSE)
def test_card_numbers_are_found_with_and_without_groups(before: str, card: str, after: str) -> None:
    assert ALL.find(f"{before} {card} {after}") == "cards"


@given(PROSE, EMAILS, PROSE)
def test_mail_addresses_are_found(before: str, address: str, after: str) -> None:
    assert ALL.find(f"{before} {address} {after}") == "emails"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNza", "keys"),
        ("Authorization: Bearer abcdefghijklmnopqrstuvwx", "keys"),
        ('api_key = "d0gs-and-c4ts"', "keys"),
        ("postgres://app:hunter22@db.example/x", "keys"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "keys"),
        ("pay with 4111 1111 1111 1111 12/27", "cards"),
        ("call +49 30 1234567 now", "phones"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "ibans"),
    ],
)
def test_other_shapes(text: str, rule: str) -> None:
    assert ALL.find(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "Explain 1234567890123456 in words.",
        "4111 1111 1111 1112 is not a card's number",
        "The price rose from 12 to 15; 3.14159265358979323846 is pi.",
        "task-oriented risk-aware desk-bound",
        "@property\ndef f(self): return A @ B",
        "https://example.org/path?x=1",
        "password: ask the administrator",
        "-----BEGIN PUBLIC KEY-----",
        "see arXiv 2504.07891 and 10.1145/3442188.3445922",
        "1" * 400,
    ],
)
def test_harmless_text_may_leave(text: str) -> None:
    assert Detectors(RulesSettings()).find(text) is None


def test_check_digits() -> None:
    assert luhn_holds("4111111111111111") and not luhn_holds("4111111111111112")
    assert iban_holds("GB82 WEST 1234 5698 7654 32") and not iban_holds("GB82 WEST 1234 5698 7654 33")
    assert luhn("411111111111111") == "4111111111111111"


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_searched(text: str) -> None:
    if ALL.find(text) is not None:
        assert ALL.find_growing(text) is not None
    assert ALL.find(text, len(text)) is None


@pytest.mark.parametrize("text", ["a@" * 20_000, "1 " * 20_000, "sk-" * 20_000, "a" * 60_000, "://" * 20_000])
def test_no_text_takes_long(text: str) -> None:
    ALL.find_growing(text)  # quadratic patterns would take minutes


def test_patterns_are_the_users_own() -> None:
    rules = Detectors(RulesSettings(keep_local=(), patterns=(r"(?i)project\s+falcon", r"\bK-\d{4}\b")))
    assert rules.find("on Project  Falcon today") == "pattern_1"
    assert rules.find("case K-1234.") == "pattern_2"
    assert rules.find("falcon project, a@b.example") is None


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("(", "regular expression"), ("a*", "empty"), (r"^(a+)+$", "longer"), (r"^(\w|\w\w)+$", "longer")],
)
def test_a_pattern_that_cannot_be_used_is_refused_at_the_start(pattern: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Detectors(RulesSettings(patterns=("fine", pattern)))
    assert "edge.rules.patterns[2]" in caught.value.message


def test_a_search_that_takes_too_long_keeps_the_text_here() -> None:
    rules = Detectors(RulesSettings(keep_local=(), patterns=(r"q(?:x|xx)+!$",)))
    assert rules.find("q" + "x" * 90 + "y") == "pattern_1"


def guard_of(text: str, **changes: Any) -> tuple[Guard, TokenLog]:
    log = TokenLog(list(text.encode()))
    settings = EdgeSettings(**changes)
    return Rules(settings, ByteTokenizer().piece).guard(log, Statistics()), log


def rule_of(call: Any, *arguments: Any, **named: Any) -> str | None:
    try:
        call(*arguments, **named)
    except Withheld as error:
        return error.rule
    return None


def test_a_prompt_with_a_secret_stays_and_its_end_is_not_taken_for_a_beginning() -> None:
    assert rule_of(guard_of("my key is sk-abcdefghijklmnopqrstuv")[0].log) == "keys"
    assert rule_of(guard_of("What is 12345678 * 23456789")[0].log) is None


def test_a_secret_that_grows_in_the_answer_is_seen_before_it_is_whole() -> None:
    guard, log = guard_of("say it: ")
    assert rule_of(guard.log) is None
    log.extend(b"the key sk")
    assert rule_of(guard.log) is None
    log.extend(b"-ab")
    assert rule_of(guard.log) == "keys"


def test_a_secret_in_several_pieces_is_seen_across_them() -> None:
    guard, log = guard_of("mail: ")
    for piece in (b"jane", b".do", b"e", b" and more "):
        log.extend(piece)
        assert rule_of(guard.log) is None
    log.extend(b"bob@x.exampl")
    assert rule_of(guard.log) == "emails"


def test_what_the_cloud_wrote_itself_is_no_secret_from_it() -> None:
    guard, log = guard_of("contact? ")
    assert rule_of(guard.log) is None
    written = b"write to help@cloud.example"
    guard.knows(len(log) + len(written))
    log.extend(written)
    assert rule_of(guard.log) is None
    log.extend(b" or to me@home.example ")
    assert rule_of(guard.log) == "emails"


@given(KEYS, st.integers(0, 5), st.integers(1, 30))
def test_a_draft_is_cut_before_a_secret(key: str, before: int, taken: int) -> None:
    guard, _ = guard_of("here: ")
    run = b"x " * before + key.encode()[:taken] + b""
    kept = bytes(guard.clip(run))
    assert run.startswith(kept)
    assert len(kept) >= 2 * before
    assert len(kept) - 2 * before <= 12  # the marks of a key's issuer and nothing more


def test_drafts_without_secrets_are_whole() -> None:
    guard, _ = guard_of("here: ")
    assert guard.clip(b"plain text, 12 and 17.") == b"plain text, 12 and 17."


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "spent.json"


def test_a_limit_holds_across_restarts_and_until_midnight(state: Path) -> None:
    day = "2026-01-01"
    limits = LimitSettings(tokens_up=100, state=state)
    first = Ledger(limits, today=lambda: day)
    first.check(Spending(tokens_up=100))
    first.add(Spending(tokens_up=60))
    first.save()
    second = Ledger(limits, today=lambda: day)
    assert second.used_up(Spending(tokens_up=41)) == "tokens_up"
    assert second.used_up(Spending(tokens_up=40)) is None
    second.add(Spending(tokens_up=40))
    with pytest.raises(Withheld) as caught:
        second.check()
    assert (caught.value.rule, caught.value.final) == ("limit_tokens_up", False)
    second.save()
    day = "2026-01-02"
    assert second.used_up() is None
    assert second.spent == Spending()
    second.add(Spending(tokens_up=1))
    second.save()
    assert json.loads(state.read_text())["day"] == day


def test_agents_of_one_user_share_the_sums(state: Path) -> None:
    ledgers = [Ledger(LimitSettings(bytes=1000, state=state)) for _ in range(3)]
    for ledger in ledgers * 4:
        ledger.add(Spending(bytes=10))
        ledger.save()
    assert Ledger(LimitSettings(bytes=1000, state=state)).spent.bytes == 120
    assert sorted(path.name for path in state.parent.iterdir()) == ["spent.json", "spent.json.lock"]
    assert state.stat().st_mode & 0o077 == 0


def test_a_clock_that_is_set_back_does_not_give_the_day_again(state: Path) -> None:
    day = "2026-01-02"
    ledger = Ledger(LimitSettings(bytes=10, state=state), today=lambda: day)
    ledger.add(Spending(bytes=10))
    ledger.save()
    day = "2026-01-01"
    assert ledger.used_up() == "bytes"
    assert Ledger(LimitSettings(bytes=10, state=state), today=lambda: day).used_up() == "bytes"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"day": 3}', '{"day": "2026-01-01"}', "\x00" * 9, "[" * 10_000]
)
def test_a_damaged_file_does_not_lift_the_limits(content: str, state: Path) -> None:
    state.parent.mkdir()
    state.write_text(content)
    with pytest.raises(ConfigError, match="damaged"):
        Ledger(LimitSettings(bytes=10, state=state))


@pytest.mark.parametrize("wrong", [{"bytes": -1}, {"bytes": 1.5}, {"money": "1"}, {"money": float("nan")}])
def test_sums_that_cannot_be_are_damage(wrong: dict[str, Any], state: Path) -> None:
    state.parent.mkdir()
    sums = {"day": "2026-01-01", "tokens_up": 0, "tokens_down": 0, "bytes": 0, "money": 0.0}
    state.write_text(json.dumps(sums | wrong))
    with pytest.raises(ConfigError, match="damaged"):
        Ledger(LimitSettings(bytes=10, state=state))


def test_without_limits_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ledger = Ledger(LimitSettings())
    ledger.add(Spending(bytes=10))
    ledger.save()
    assert ledger.spent.bytes == 10 and not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_found_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        Ledger(LimitSettings(bytes=1, state=tmp_path / "file" / "spent.json"))


def test_money_is_tokens_times_prices(state: Path) -> None:
    guard, _ = guard_of(
        "hello",
        limits=LimitSettings(money=0.001, state=state),
        prices=PriceSettings(cloud_input=10.0, cloud_output=100.0),
    )
    guard.spend(tokens_up=50, size=100)
    assert guard.room() == 5  # 0.0005 are left, at 0.0001 a token
    guard.received(tokens=5)
    assert guard.room() == 0
    assert rule_of(guard.may_read) == "limit_money"
    assert rule_of(guard.spend, tokens_up=1, size=1) == "limit_money"
