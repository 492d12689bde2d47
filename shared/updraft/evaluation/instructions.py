"""Instructions that a rule can check: those of IFEval (Zhou et al., arXiv 2311.07911, table 1), in our own code.

Left out is the language of an answer, which needs a language detector; where the paper also asks for English
(all capitals, all lowercase) only the case is checked. Sentences end at `.`, `!` or `?` before a space, but not after
common abbreviations and initials; the paper's own tokenizer cuts a few of them differently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["CHECKS", "count_sentences", "follows", "follows_loosely", "parameters_of"]

Parameters = Mapping[str, Any]
Check = Callable[[str, Parameters], bool]

_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|Co|etc|vs|e\.g|i\.e|No|[A-Z])\.$")
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")
_FIXED_ANSWERS: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS: Final = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}


def follows(kind: str, answer: str, parameters: Parameters) -> bool:
    """Whether an answer follows an instruction; a blank one follows none. `kind` is one of `CHECKS`."""
    return bool(answer.strip()) and CHECKS[kind][0](answer, parameters)


def follows_loosely(kind: str, answer: str, parameters: Parameters) -> bool:
    """As `follows`, also without its first or last line and without asterisks (the paper's section 2.2)."""
    lines = answer.split("\n")
    cuts = ["\n".join(part).strip() for part in (lines, lines[1:], lines[:-1], lines[1:-1])]
    return any(follows(kind, text, parameters) for cut in cuts for text in (cut, cut.replace("*", "")))


def parameters_of(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a check needs, checked.

    Raises:
        ValueError: one is missing or of another type.
    """
    found = {}
    for name, expected in CHECKS[kind][1].items():
        value = given.get(name)
        if isinstance(value, float) and expected is int and value.is_integer():
            value = int(value)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ValueError(f"{kind} needs {name} as {expected.__name__}; it is {value!r}")
        if isinstance(value, list) and not (value and all(isinstance(word, str) and word for word in value)):
            raise ValueError(f"{kind} needs {name} as words")
        if name.endswith("relation") and value not in ("at least", "less than"):
            raise ValueError(f"{kind} has the relation {value!r}; it must be at least or less than")
        found[name] = value
    return found


def count_sentences(text: str) -> int:
    """Sentences of a text; what stands after the last mark counts as one more."""
    count = last = 0
    for match in _SENTENCE_END.finditer(text):
        if _ABBREVIATION.search(text[: match.end()]) and match.end() < len(text.rstrip()):
            continue
        count, last = count + 1, match.end()
    return count + bool(text[last:].strip())


def _compared(count: int, given: Parameters, limit: str, relation: str = "relation") -> bool:
    most = int(given[limit])
    return count >= most if given[relation] == "at least" else count < most


def _keywords(text: str, given: Parameters) -> bool:
    return all(word.casefold() in text.casefold() for word in given["keywords"])


def _keyword_count(text: str, given: Parameters) -> bool:
    count = len(re.findall(re.escape(given["keyword"]), text, re.IGNORECASE))
    return _compared(count, given, "frequency")


def _forbidden(text: str, given: Parameters) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in given["forbidden_words"])


def _letters(text: str, given: Parameters) -> bool:
    return _compared(text.lower().count(given["letter"].lower()), given, "let_frequency", "let_relation")


def _words(text: str, given: Parameters) -> bool:
    return _compared(len(re.findall(r"\w+", text)), given, "num_words")


def _sentences(text: str, given: Parameters) -> bool:
    return _compared(count_sentences(text), given, "num_sentences")


def _paragraphs(text: str, given: Parameters) -> bool:
    """Paragraphs are divided by three asterisks; only the first and the last part may be empty."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == int(given["num_paragraphs"])


def _nth_paragraph(text: str, given: Parameters) -> bool:
    parts = [part.strip() for part in re.split(r"\n\n", text) if part.strip()]
    number = given["nth_paragraph"]
    if len(parts) != given["num_paragraphs"] or not 1 <= number <= len(parts):
        return False
    first = re.match(r"\W*(\w[\w'-]*)", parts[number - 1])
    return first is not None and first[1].casefold() == str(given["first_word"]).casefold()


def _placeholders(text: str, given: Parameters) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= int(given["num_placeholders"])


def _postscript(text: str, given: Parameters) -> bool:
    marker = given["postscript_marker"]
    pattern = _POSTSCRIPTS.get(marker, rf"\s*{re.escape(marker.lower())}.*$")
    return re.search(pattern, text.lower(), re.MULTILINE) is not None


def _bullets(text: str, given: Parameters) -> bool:
    stars = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == int(given["num_bullets"])


def _fixed_answer(text: str, given: Parameters) -> bool:
    return any(answer in text for answer in _FIXED_ANSWERS)


def _highlights(text: str, given: Parameters) -> bool:
    found = [part.strip("*").strip() for part in re.findall(r"\*[^\n*]*\*", text)]
    found += [part.strip("*").strip() for part in re.findall(r"\*\*[^\n*]*\*\*", text)]
    return sum(map(bool, found)) >= int(given["num_highlights"])


def _sections(text: str, given: Parameters) -> bool:
    parts = re.split(rf"\s?{re.escape(given['section_spliter'])}\s?\d+\s?", text)
    return len(parts) - 1 >= int(given["num_sections"])


def _json(text: str, given: Parameters) -> bool:
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, given: Parameters) -> bool:
    return any(part.strip("<>").strip() for part in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, given: Parameters) -> bool:
    parts = [part.strip() for part in text.split("******")]
    full = [part for part in parts if part]
    return all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]


def _repeats(text: str, given: Parameters) -> bool:
    return text.strip().casefold().startswith(given["prompt_to_repeat"].strip().casefold())


def _ends(text: str, given: Parameters) -> bool:
    return text.strip().strip('"').casefold().endswith(given["end_phrase"].strip().casefold())


def _quoted(text: str, given: Parameters) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _capital_words(text: str, given: Parameters) -> bool:
    count = sum(word.isupper() for word in re.findall(r"[\w'-]+", text))
    return _compared(count, given, "capital_frequency", "capital_relation")


CHECKS: Final[dict[str, tuple[Check, dict[str, type]]]] = {
    "keywords:existence": (_keywords, {"keywords": list}),
    "keywords:frequency": (_keyword_count, {"keyword": str, "frequency": int, "relation": str}),
    "keywords:forbidden_words": (_forbidden, {"forbidden_words": list}),
    "keywords:letter_frequency": (_letters, {"letter": str, "let_frequency": int, "let_relation": str}),
    "length_constraints:number_words": (_words, {"num_words": int, "relation": str}),
    "length_constraints:number_sentences": (_sentences, {"num_sentences": int, "relation": str}),
    "length_constraints:number_paragraphs": (_paragraphs, {"num_paragraphs": int}),
    "length_constraints:nth_paragraph_first_word": (
        _nth_paragraph,
        {"num_paragraphs": int, "nth_paragraph": int, "first_word": str},
    ),
    "detectable_content:number_placeholders": (_placeholders, {"num_placeholders": int}),
    "detectable_content:postscript": (_postscript, {"postscript_marker": str}),
    "detectable_format:number_bullet_lists": (_bullets, {"num_bullets": int}),
    "detectable_format:constrained_response": (_fixed_answer, {}),
    "detectable_format:number_highlighted_sections": (_highlights, {"num_highlights": int}),
    "detectable_format:multiple_sections": (_sections, {"section_spliter": str, "num_sections": int}),
    "detectable_format:json_format": (_json, {}),
    "detectable_format:title": (_title, {}),
    "combination:two_responses": (_two_responses, {}),
    "combination:repeat_prompt": (_repeats, {"prompt_to_repeat": str}),
    "startend:end_checker": (_ends, {"end_phrase": str}),
    "startend:quotation": (_quoted, {}),
    "change_case:capital_word_frequency": (_capital_words, {"capital_frequency": int, "capital_relation": str}),
    "change_case:english_capital": (lambda text, given: text.isupper(), {}),
    "change_case:english_lowercase": (lambda text, given: text.islower(), {}),
    "punctuation:no_comma": (lambda text, given: "," not in text, {}),
}
"""Kinds of instructions, each with its check and the parameters that it needs."""
