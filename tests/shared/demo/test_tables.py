from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console, RenderableType

from tests.shared.demo.samples import outage, tier, way_figures
from updraft.demo.tables import findings, next_steps, outage_lines, pair_sentence, place_table, ways_table


def text_of(*renderables: RenderableType, width: int = 80) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None)
    for renderable in renderables:
        console.print(renderable)
    return file.getvalue()


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_figures_fit_into_80_columns() -> None:
    rows = (
        way_figures("edge", cloud_share=0.0, same_text=0),
        way_figures("cloud", cloud_passes_per_token=1.0, cloud_positions_per_token=1.0, cloud_share=1.0),
        way_figures("draft"),
        way_figures("draft", 0.8, same_text=5, first_token_seconds=1.234, bytes_up_per_token=123.4),
    )
    text = text_of(ways_table(rows))
    assert "…" not in text
    lines = words(text)
    assert ["edge", "0", "31", "300", "ms", "-", "-", "0%", "-", "-", "no", "0/6"] in lines
    assert ["cloud", "0", "31", "300", "ms", "1.00", "1.00", "100%", "18.0", "23.3", "itself"] in lines
    assert ["draft", "0", "31", "300", "ms", "0.35", "2.16", "36%", "18.0", "23.3", "yes", "6/6"] in lines
    assert ["draft", "0.8", "31", "1234", "ms", "0.35", "2.16", "36%", "123.4", "23.3", "no", "5/6"] in lines


def test_the_findings_say_when_the_promise_is_broken() -> None:
    sound = text_of(*findings([way_figures("draft"), way_figures("span", cloud_share=0.4)]), width=200)
    assert "draft greedy: the cloud's own text (6 of 6 prompts) for 0.35 cloud passes a token." in sound
    assert "40% of the tokens" in sound and "NOT" not in sound and "finished by the edge alone" not in sound
    broken = text_of(*findings([way_figures("draft", 0.8, same_text=5, degraded=1)]), width=200)
    assert "draft at temperature 0.8: NOT THE CLOUD'S OWN TEXT (5 of 6 prompts)" in broken
    assert "1 answers had to be finished by the edge alone" in broken


def test_places_name_models_processes_and_cores() -> None:
    edge = tier("smollm2-q4_0", cores=(0, 1, 2, 5))
    lines = words(text_of(place_table(edge, tier("smollm2", "127.0.0.1:36363", cores=None))))
    assert ["edge", "smollm2-q4_0", "Q4_0,", "90", "MB", "123,", "this", "one", "0-2,5", "(1", "thread)"] in lines
    assert ["cloud", "smollm2", "Q4_0,", "90", "MB", "123,", "127.0.0.1:36363", "any", "(1", "thread)"] in lines


def test_a_model_name_is_not_read_as_markup() -> None:
    assert "[red]x.gguf" in text_of(place_table(tier("[red]x.gguf"), tier()))


def test_how_much_smaller_the_edge_is_is_said_as_it_is() -> None:
    cloud = tier("smollm2")
    student = replace(tier("smollm2-student"), layers=12, weight_bytes=45_000_000)
    assert pair_sentence(student, cloud) == (
        "The edge's model has 12 of the cloud's 30 layers, made of it by distillation, and 50% of its bytes."
    )
    assert "distillation" not in pair_sentence(replace(student, model="other.gguf"), cloud)
    assert "as many layers" in pair_sentence(tier("smollm2-q4_0"), cloud)
    assert "more layers" in pair_sentence(cloud, student)


def test_an_outage_in_words() -> None:
    text = " ".join(text_of(outage_lines(outage())).split())
    assert "The edge finished alone (degraded: yes, cloud_unavailable)" in text
    assert "killed after 16 tokens; 18 of 48 had its word, 30 are the edge's" in text
    assert "The cloud is back (started in 0.7 s)" in text
    assert "37 tokens, 17 cloud passes, degraded: no" in text


def test_a_failed_outage_is_not_glossed_over() -> None:
    text = text_of(outage_lines(outage(degraded=False, reason=None, next_degraded=True)))
    assert "NOT SURVIVED" in text and "NOT RECOVERED" in text


def test_the_next_steps_can_be_copied_from_80_columns() -> None:
    text = text_of(next_steps())
    for line in ("updraft serve edge", "updraft serve cloud", 'base_url="http://127.0.0.1:7070/v1"', "curl "):
        assert line in text
    assert '  -d \'{"model": "updraft", "messages":' in text
