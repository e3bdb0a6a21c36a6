"""The graph as SVG: well-formed whatever is in it, complete, and without anything that acts or is fetched."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow.drawing.markup import DARK, LIGHT, MARKS
from miniflow.drawing.svg import DrawnTask, graph_svg
from tests.test_graph import Graph, acyclic_graphs

SVG = "{http://www.w3.org/2000/svg}"


def drawing(tasks: list[DrawnTask], **options: object) -> ET.Element:
    return ET.fromstring(graph_svg(tasks, title="a flow", **options))  # type: ignore[arg-type]  # noqa: S314


def groups_of(svg: ET.Element) -> list[ET.Element]:
    return svg.findall(f".//{SVG}g")


def labels(svg: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]


@given(acyclic_graphs(), st.booleans())
def test_every_task_is_there_once_and_no_two_overlap(graph: Graph, is_long: bool) -> None:
    name = "task_of_a_length_that_makes_the_drawing_wide" if is_long else "t"
    svg = drawing([DrawnTask(f"{name}{n}", needed) for n, needed in enumerate(graph)])

    boxes = []
    for group in groups_of(svg):
        rectangle = group.find(f"{SVG}rect[@class='face']")
        assert rectangle is not None
        boxes.append([float(rectangle.attrib[key]) for key in ("x", "y", "width", "height")])
    assert sorted(group.findtext(f"{SVG}title", "") for group in groups_of(svg)) == sorted(
        f"{name}{n}" for n in range(len(graph))
    )
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    for (x, y, w, h), (other_x, other_y, _, _) in combinations(boxes, 2):
        assert abs(x - other_x) >= w or abs(y - other_y) >= h


@given(acyclic_graphs())
def test_there_is_an_arrow_for_every_dependency_between_tasks_or_frames(graph: Graph) -> None:
    svg = drawing([DrawnTask(f"t{n}", needed) for n, needed in enumerate(graph)])

    heads = "".join(path.attrib["d"] for path in svg.iter(f"{SVG}path") if "head" in path.attrib["class"])
    frames = svg.findall(f"{SVG}rect[@class='frame']")
    count = sum(map(len, graph))
    assert heads.count("Z") == count or (frames and heads.count("Z") < count)


@given(st.text(), st.text(), st.text())
def test_any_text_stays_text(title: str, detail: str, description: str) -> None:
    task = DrawnTask("x", detail=detail + "</title><script>alert(1)</script>", href='#"onclick="alert(1)')
    text = graph_svg([task], title=title, description=description)
    text.encode()
    svg = ET.fromstring(text)  # noqa: S314

    assert {element.tag.removeprefix(SVG) for element in svg.iter()} <= {
        "svg", "title", "desc", "style", "rect", "path", "g", "text", "tspan", "a",
    }  # fmt: skip
    assert not any(name.startswith("on") for element in svg.iter() for name in element.attrib)


@pytest.mark.parametrize("task_id", ["a.b-c_D.9", "9", "_", "-".join("a" * 100), "__proto__"])
def test_every_legal_id_is_shown_shortened_and_whole(task_id: str) -> None:
    svg = drawing([DrawnTask(task_id)])

    (label,) = labels(svg)
    assert label == task_id if len(task_id) <= 28 else re.fullmatch(re.escape(label).replace("…", ".+"), task_id)
    assert groups_of(svg)[0].findtext(f"{SVG}title") == task_id


@pytest.mark.parametrize("state", MARKS)
def test_a_state_is_told_by_class_mark_and_words(state: str) -> None:
    svg = drawing([DrawnTask("x", state=state, detail="exit status 3")])

    (group,) = groups_of(svg)
    assert group.attrib["class"] == f"task {state}"
    assert labels(svg) == [f"{MARKS[state]} x"]
    assert group.findtext(f"{SVG}title") == f"x: {state}\nexit status 3"


def test_the_critical_path_is_marked_with_its_steps() -> None:
    tasks = [DrawnTask("a"), DrawnTask("b", [0]), DrawnTask("c", [0, 1])]
    svg = drawing(tasks, critical_path=[0, 1, 2])

    assert [group.attrib["class"] for group in groups_of(svg)] == ["task critical"] * 3
    arrows = {
        path.attrib["class"]: path.attrib["d"].count("Z") for path in svg.iter(f"{SVG}path") if "head" in path.attrib["class"]
    }
    assert arrows == {"edge head": 1, "edge critical head": 2}


def test_tasks_of_a_kind_stand_in_a_frame_of_a_screens_size() -> None:
    many = [DrawnTask("begin"), *(DrawnTask(f"measure_{n:03}", [0]) for n in range(198))]
    svg = drawing([*many, DrawnTask("end", range(1, 199))])

    assert [frame.findtext(f"{SVG}title") for frame in svg.findall(f"{SVG}rect[@class='frame']")] == ["198 tasks"]
    assert len(groups_of(svg)) == 200
    assert len(svg.findall(f"{SVG}path")) == 3
    assert float(svg.attrib["width"]) < 1100
    assert float(svg.attrib["height"]) < 2000


def test_a_wide_drawing_is_turned() -> None:
    pairs = [task for n in range(100) for task in (DrawnTask(f"first_{n}"), DrawnTask(f"second_{n}", [2 * n]))]

    assert float(drawing(pairs).attrib["width"]) < 600


def test_it_is_an_image_with_a_name_or_with_links_a_group() -> None:
    plain = drawing([DrawnTask("x")], description="one task")
    assert (plain.attrib["role"], plain.attrib["aria-label"]) == ("img", "a flow")
    assert (plain[0].text, plain[1].text) == ("a flow", "one task")

    linked = drawing([DrawnTask("x", href="#task-x")])
    assert linked.attrib["role"] == "group"
    assert [link.attrib["href"] for link in linked.iter(f"{SVG}a")] == ["#task-x"]


def test_nothing_is_fetched() -> None:
    text = graph_svg([DrawnTask("x", state="failed")], title="x")

    assert re.findall(r"https?:[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in text
    assert "@import" not in text


def test_the_same_tasks_have_the_same_drawing() -> None:
    tasks = [DrawnTask(f"t{n}", range(max(0, n - 2), n)) for n in range(30)]

    assert graph_svg(tasks, title="x") == graph_svg(tasks, title="x")


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", [name for name in LIGHT if name not in ("background", "box", "line")])
def test_text_has_the_contrast_that_people_need(palette: dict[str, str], name: str) -> None:
    assert set(LIGHT) == set(DARK)
    for ground in ("background", "box"):
        brighter, darker = sorted((luminance(palette[name]), luminance(palette[ground])), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5
