"""The page needs nothing but itself, says what the run says, and names in it are text whatever they are."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from finished_run import EVIL, contents

from genie_onnx.report.page import Contents, parts, render, short, tail

LOADS = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}
STANDS_ALONE = {"meta", "link", "img", "wbr"}


class Page(HTMLParser):
    """What is in a page: elements, what they refer to, scripts, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in STANDS_ALONE:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts[-1] += data
        elif inside == "style":
            self.styles.append(data)
        else:
            self.text += data

    @property
    def ids(self) -> set[str | None]:
        return {attributes["id"] for _, attributes in self.elements if "id" in attributes}

    @property
    def embedded(self) -> dict[str, Any]:
        return dict(json.loads(self.scripts[0]))

    def images(self) -> list[str | None]:
        return [attributes["src"] for tag, attributes in self.elements if tag == "img"]


def page(run: Contents) -> Page:
    return Page(render(run))


def test_nothing_is_loaded_from_elsewhere() -> None:
    found = page(contents(bits=plan()))
    assert found.open == []
    references = [value for _, attributes in found.elements for name, value in attributes.items() if name in LOADS]
    assert references
    assert all(value is not None and value.startswith(("data:", "#")) for value in references)
    assert "url(" not in "".join(found.styles)
    assert "@import" not in "".join(found.styles)
    assert not {tag for tag, _ in found.elements} & {"iframe", "object", "embed", "base", "form"}
    assert len(found.scripts) == 2


def test_every_link_leads_somewhere() -> None:
    found = page(contents(bits=plan()))
    kinds = {"block": len(contents().blocks), "value": 3, "weight": 4}
    for _, attributes in found.elements:
        target = str(attributes.get("href", ""))
        kind, _, place = target.removeprefix("#").partition("-")
        if kind in kinds:
            assert int(place) < kinds[kind]
        elif target.startswith("#"):
            assert target[1:] in found.ids


def test_the_data_in_it_are_those_of_the_run() -> None:
    run = contents()
    embedded = page(run).embedded
    assert embedded["report"] == run.report
    assert embedded["comparison"] == run.comparison
    assert embedded["steps"]["b/Conv.w"] == [0.01, 0.02, 0.03]
    first = embedded["blocks"][0]
    assert (first["before"], first["after"], first["finding"]["sqnr_db"]) == (0.0, 0.2, 12.5)


def test_what_is_read_is_there() -> None:
    text = " ".join(page(contents()).text.split())
    for said in (
        "87.5 %",
        "17.5 dB",
        "96.0 kB",
        "40 % of the float file",
        "1 min 9 s",
        "is the worst",
        "core · W4A4",
        "12 of 16",
    ):
        assert said in text


@pytest.mark.parametrize("bits", [False, True])
def test_names_are_text_whatever_they_are(bits: bool) -> None:
    plain, evil = contents(bits=plan() if bits else None), contents(EVIL, bits=plan(EVIL) if bits else None)
    honest, found = page(plain), page(evil)
    strip = lambda made: [(tag, set(attributes)) for tag, attributes in made.elements if tag != "wbr"]  # noqa: E731
    assert strip(found) == strip(honest)
    assert len(found.images()) == 1
    assert found.embedded["report"] == evil.report
    assert EVIL in found.text
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)


def test_no_script_but_its_own_may_run() -> None:
    found = page(contents())
    (policy,) = [
        str(a["content"]) for tag, a in found.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_bits_of_blocks_are_shown_where_they_were_chosen() -> None:
    assert "bits" not in page(contents()).ids
    found = page(contents(bits=plan()))
    assert "bits" in found.ids
    assert "mixed precision" in found.text
    assert "3.00 bits a weight on average" in found.text


def test_the_widths_shown_are_those_of_the_plan() -> None:
    seven = plan()  # what --reduce-range makes of 8 bits
    for block in seven["blocks"]:
        block["bits"] = 7
        block["damage"] = {"2": 0.5, "7": 0.0625}
    found = page(contents(bits=seven))
    assert "at 7" in found.text
    assert "at 8" not in found.text
    assert sum("chosen" in str(attributes.get("class")) for tag, attributes in found.elements if tag == "td") == 2
    assert found.text.count("0.0625") == 2


def test_values_with_more_bits_than_asked_for_are_shown() -> None:
    mixed = plan()
    mixed["values"] = [
        {"values": ["early", "early again"], "bits": 8, "elements": 1234, "damage": {"4": 0.625, "8": 0.015625}},
        {"values": ["late"], "bits": 4, "elements": 5678, "damage": {"4": 0.0078125, "8": 0.001}},
    ]
    found = page(contents(bits=mixed))
    for text in ("1,234", "0.625", "0.0156"):
        assert text in found.text
    assert "5,678" not in found.text
    assert "more bits than were asked for" not in page(contents(bits=plan())).text


def test_a_run_of_which_little_is_known() -> None:
    bare = contents(
        curves=(), comparison=None, blocks=(), steps={}, pictures=(), machines=(), command=None, missing=("No curves: x.",)
    )
    found = page(bare)
    assert not {"comparison", "diagnosis", "images"} & found.ids
    assert "No curves: x." in found.text
    assert [row["block"] for row in found.embedded["blocks"]] == [entry["block"] for entry in bare.report["blocks"]]


def test_losses_that_are_not_known() -> None:
    run = contents()
    blocks = [{**entry, "before": None, "after": None} for entry in run.report["blocks"]]
    assert page(dataclasses.replace(run, report={**run.report, "blocks": blocks})).open == []


def test_three_hundred_values_stay_some_megabytes() -> None:
    run = contents()
    assert run.comparison is not None
    values = [{**run.comparison["values"][0], "value": f"/layer/v{k}", "histogram": [123456] * 256} for k in range(900)]
    text = render(dataclasses.replace(run, comparison={**run.comparison, "values": values}))
    assert len(text) < 3_000_000
    kept = [bool(value["histogram"]) for value in Page(text).embedded["comparison"]["values"]]
    assert kept == [True] * 400 + [False] * 500


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/layer1/layer1.0/conv1/Conv", "layer1.0/conv1/Conv"),
        ("/features/features.9/body/body.0/body.0.0/Conv", "features.9/body.0.0/Conv"),
        ("conv10", "conv10"),
        ("/conv1/conv10/Conv", "conv1/conv10/Conv"),
        ("/", "/"),
    ],
)
def test_short_names(name: str, expected: str) -> None:
    assert short(name) == expected
    assert "".join(parts(name)) == expected


def test_boxes_show_the_end_of_a_name() -> None:
    assert tail("/layer1/layer1.0/conv1/Conv") == "layer1.0/conv1"
    assert tail("a" * 40 + "xyz") == "…" + "a" * 19 + "xyz"


def plan(name: str = "b/Conv") -> dict[str, Any]:
    """A plan of bits, as bits.json has it."""
    blocks = [
        {"block": name, "bits": 2, "parameters": 1000, "damage": {"2": 0.5, "3": 0.2, "4": 0.1, "8": 0.0}},
        {"block": "d/Gemm", "bits": 4, "parameters": 1000, "damage": {"2": 0.9, "3": 0.4, "4": 0.1, "8": 0.0}},
    ]
    return {"goal": f"--avg-bits 3 of {name}", "unit": "nats", "blocks": blocks, "bytes": 9000, "average": 3.0}
