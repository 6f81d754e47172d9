"""Names that others gave, in pages: shortened, and shown as a terminal would show them."""

from __future__ import annotations

import pytest

pytest.importorskip("jinja2")

from markupsafe import Markup

from fp16engine.experiments.report.pages import environment


def rendered(source: str, **values: object) -> str:
    return environment().from_string(source).render(**values).strip()


def named(name: str) -> str:
    return rendered('{% from "parts.html.j2" import named %}{{ named(name) }}', name=name)


def test_what_turns_the_text_around_it_is_escaped_and_markup_is_left_alone() -> None:
    assert rendered("{{ name }}", name="evil\u202egpj.exe") == "evil\\u202egpj.exe"
    assert rendered('<i title="{{ name }}">', name="a\u2066b") == '<i title="a\\u2066b">'
    assert rendered("{{ svg }}", svg=Markup("<svg>\n</svg>")) == "<svg>\n</svg>"


def test_a_long_name_loses_its_middle_and_is_whole_in_its_title() -> None:
    long = "Golden retriever, adult, outdoors, in the rain"
    assert named("Golden retriever") == "<bdi>Golden retriever</bdi>"
    assert named(long) == f'<bdi title="{long}">Golden re…, adult, outdoors, in the rain</bdi>'


def test_a_name_is_no_markup() -> None:
    assert named("<b>&") == "<bdi>&lt;b&gt;&amp;</bdi>"
