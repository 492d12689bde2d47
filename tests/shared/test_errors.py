"""The error tree is the table that both servers answer with."""

from __future__ import annotations

import re
from collections import Counter
from http import HTTPStatus

import grpc
import pytest

from updraft import errors
from updraft.errors import UpdraftError, error_classes, from_code


def tree(cls: type[UpdraftError] = UpdraftError) -> list[type[UpdraftError]]:
    """All classes of the module, parents first."""
    children = [child for child in cls.__subclasses__() if child.__module__ == errors.__name__]
    return [cls, *(found for child in children for found in tree(child))]


CLASSES = tree()
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: str(cls.__name__))


def test_the_tree_has_many_classes() -> None:
    assert len(CLASSES) > 15
    assert len(set(CLASSES)) == len(CLASSES)


def test_codes_are_unique_and_plain() -> None:
    codes = Counter(cls.code for cls in CLASSES)
    assert [code for code, count in codes.items() if count > 1] == []
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", code) for code in codes)


@every_class
def test_every_class_has_its_place_in_the_table(cls: type[UpdraftError]) -> None:
    assert cls.grpc_status in grpc.StatusCode.__members__
    assert grpc.StatusCode[cls.grpc_status] is not grpc.StatusCode.OK
    # 499 is the usual answer to a client that went away, though no standard names it.
    assert cls.http_status == 499 or HTTPStatus(cls.http_status).value >= 400
    assert isinstance(cls.retryable, bool)


@every_class
def test_every_class_has_a_remedy(cls: type[UpdraftError]) -> None:
    assert re.fullmatch(r"\S.*\S\.", cls.default_remedy)
    assert cls("It broke.").remedy == cls.default_remedy
    assert cls("It broke.", remedy="Mend it.").remedy == "Mend it."


@every_class
def test_an_error_survives_the_wire(cls: type[UpdraftError]) -> None:
    rebuilt = from_code(cls.code, "It broke.", "Mend it.")
    assert type(rebuilt) is cls
    assert (rebuilt.message, rebuilt.remedy, str(rebuilt)) == ("It broke.", "Mend it.", "It broke.")
    assert from_code(cls.code, "It broke.").remedy == cls.default_remedy
    assert error_classes()[cls.code] is cls


def test_an_unknown_code_becomes_the_base_class() -> None:
    assert type(from_code("from_the_future", "It broke.")) is UpdraftError


def test_a_retryable_error_blames_nobody_but_the_moment() -> None:
    blamed = [cls.__name__ for cls in CLASSES if cls.retryable and 400 <= cls.http_status < 500]
    assert blamed == ["Overloaded"]


def test_all_classes_are_exported_and_drawn() -> None:
    assert {cls.__name__ for cls in CLASSES} <= set(errors.__all__)
    drawn = re.findall(r"^(?:│ {3})*(?:[├└]── )?([A-Z]\w+)", (errors.__doc__ or "").split("```")[1], re.MULTILINE)
    assert sorted(drawn) == sorted(cls.__name__ for cls in CLASSES)
