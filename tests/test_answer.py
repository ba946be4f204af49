import json
import math
import string
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from verl_socio.answer import MAX_CHARS, MAX_MAGNITUDE, Answer, Grammar, Prompt, Status, describe, parse
from verl_socio.geometry import Frame

BOXES = Grammar()
REFINE = Grammar(points="points")
SIGNED = Grammar(points="points", negative_points="negative_points")
TWO_POINTS = Grammar(box="bbox", point_keys=("points_1", "points_2"), single=True)
ONE_POINT = Grammar(point_keys=("point_2d",))
POINTS_ONLY = Grammar(box=None, points="points")
GRAMMARS = [BOXES, REFINE, SIGNED, TWO_POINTS, ONE_POINT, POINTS_ONLY, Grammar(single=True, max_items=1, max_points=0)]

BOX = '{"bbox_2d": [1, 2, 3, 4]}'
OTHER = '{"bbox_2d": [5, 6, 7, 8]}'


def tagged(body, thinking="hm"):
    return f"<think>{thinking}</think><answer>{body}</answer>"


def boxes(answer):
    return [prompt.box_xyxy for prompt in answer.prompts]


# --- what each grammar takes ---


def test_a_list_of_boxes():
    answer = parse(tagged(f"[{BOX}, {OTHER}]"), BOXES)
    assert answer == Answer(
        status=Status.OK,
        prompts=(Prompt((1.0, 2.0, 3.0, 4.0)), Prompt((5.0, 6.0, 7.0, 8.0))),
        reason="",
        thinking="hm",
        think_format=True,
        item_exact=(True, True),
        box_exact=(True, True),
        points_exact=(False, False),
    )
    assert answer.text == tagged(f"[{BOX}, {OTHER}]")


@pytest.mark.parametrize(
    ("body", "box_exact", "points_exact", "item_exact"),
    [
        ('[{"bbox_2d": [0, 0, 9, 9], "points": [[1, 2]]}]', (True,), (True,), (True,)),
        ('[{"bbox_2d": [0, 0, 9, 9], "points": [[1]]}]', (True,), (False,), (False,)),
        ('[{"bbox_2d": [0, 0, 9], "points": [[1, 2]]}]', (False,), (True,), (False,)),
        ('[{"bbox_2d": [0, 0, 9, 9], "points": [[1, 2]], "why": 1}]', (True,), (True,), (False,)),
        ('[{"bbox_2d": [0, 0, 9, 9]}, 7]', (True, False), (False, False), (False, False)),
        ('see: [{"bbox_2d": [0, 0, 9, 9], "points": [[1, 2]]}]', (False,), (False,), (False,)),
        ("[]", (), (), ()),
    ],
)
def test_box_and_points_of_an_item_are_judged_apart(body, box_exact, points_exact, item_exact):
    answer = parse(tagged(body), REFINE)
    assert (answer.box_exact, answer.points_exact, answer.item_exact) == (box_exact, points_exact, item_exact)


@pytest.mark.parametrize(
    ("grammar", "body", "expected"),
    [
        (
            REFINE,
            '[{"bbox_2d": [0, 0, 9, 9], "points": [[1, 2], [3.5, 4]]}]',
            Prompt((0, 0, 9, 9), ((1, 2), (3.5, 4)), (1, 1)),
        ),
        (REFINE, '[{"bbox_2d": [0, 0, 9, 9], "points": []}]', Prompt((0, 0, 9, 9))),
        (
            SIGNED,
            '[{"bbox_2d": [0, 0, 9, 9], "negative_points": [[5, 6]], "points": [[1, 2]]}]',
            Prompt((0, 0, 9, 9), ((1, 2), (5, 6)), (1, 0)),
        ),
        (SIGNED, '[{"bbox_2d": [0, 0, 9, 9], "points": [[1, 2]]}]', Prompt((0, 0, 9, 9), ((1, 2),), (1,))),
        (
            TWO_POINTS,
            '{"bbox": [0, 0, 9, 9], "points_1": [1, 2], "points_2": [3, 4]}',
            Prompt((0, 0, 9, 9), ((1, 2), (3, 4)), (1, 1)),
        ),
        (ONE_POINT, '[{"bbox_2d": [0, 0, 9, 9], "point_2d": [1, 2]}]', Prompt((0, 0, 9, 9), ((1, 2),), (1,))),
        (POINTS_ONLY, '[{"points": [[1, 2], [3, 4]]}]', Prompt(None, ((1, 2), (3, 4)), (1, 1))),
        (Grammar(box=None, point_keys=("p",)), '[{"p": [1, 2]}]', Prompt(None, ((1, 2),), (1,))),
    ],
)
def test_each_grammar_takes_its_own_form(grammar, body, expected):
    answer = parse(tagged(body), grammar)
    assert answer.prompts == (expected,)
    assert answer.status is Status.OK
    assert answer.item_exact == (True,)
    assert answer.reason == ""


@pytest.mark.parametrize(
    ("body", "grammar"),
    [("[]", BOXES), (" [ \n ] ", BOXES), ("```json\n[]\n```", BOXES), ("{}", TWO_POINTS), ("[]", TWO_POINTS)],
)
def test_nothing_found_is_well_formed_and_empty(body, grammar):
    answer = parse(tagged(body), grammar)
    assert (answer.status, answer.prompts, answer.item_exact, answer.reason) == (Status.EMPTY, (), (), "")


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "nothing",
        "[",
        "]",
        "{}",
        "[[]]",
        "[{}]",
        "null",
        "0",
        '"[]"',
        "[] []",
        "no []",
        "[],",
        "[1]",
        "[null]",
        "[\x00]",
    ],
)
def test_unparseable_is_not_empty(body):
    answer = parse(tagged(body), BOXES)
    assert answer.status is Status.UNPARSEABLE
    assert answer.prompts == ()
    assert answer.reason != ""


# --- where the answer is ---


@pytest.mark.parametrize(
    "text",
    [
        f"<answer>[{OTHER}]</answer><answer>[{BOX}]</answer>",
        f"<think>so <answer>[{OTHER}]</answer></think> <answer>[{BOX}]</answer>",
        f"<answer>[{BOX}]",
        f"<think>long<answer>[{BOX}]</answer>",
        f"[{BOX}]",
        f"```json\n[{BOX}]\n```",
        f"```\n[{BOX}]```",
        f"<answer>```json\n[{BOX}]\n```</answer>",
        f"<think>a [{OTHER}] b</think>\n\n[{BOX}]",
        f"[{BOX}]</answer>"[: -len("</answer>")] + " \n\t",
    ],
)
def test_the_last_answer_is_found(text):
    answer = parse(text, BOXES)
    assert boxes(answer) == [(1.0, 2.0, 3.0, 4.0)]
    assert answer.item_exact == (True,)


@pytest.mark.parametrize(
    ("body", "expected", "reason"),
    [
        (f"Here it is: [{BOX}] (a school)", [(1, 2, 3, 4)], "text around the list"),
        (f"see [1], {{x}}: [{OTHER}] or rather [{BOX}]", [(1, 2, 3, 4)], "text around the list"),
        (BOX, [(1, 2, 3, 4)], "an object outside a list"),
        (f"{BOX}\n{OTHER}", [(1, 2, 3, 4), (5, 6, 7, 8)], "an object outside a list"),
        (f"[{BOX}, {OTHER}, ]", [(1, 2, 3, 4), (5, 6, 7, 8)], "a broken list"),
        (f"[{BOX} {OTHER}]", [(1, 2, 3, 4), (5, 6, 7, 8)], "a broken list"),
        (f'[{BOX}, {OTHER}, {{"bbox_2d": [1,', [(1, 2, 3, 4), (5, 6, 7, 8)], "cut off"),
        (f"[{BOX}, {OTHER}", [(1, 2, 3, 4), (5, 6, 7, 8)], "cut off"),
        (f"[{BOX}, {{'bbox_2d': 1}}]", [(1, 2, 3, 4)], "a broken list"),
    ],
)
def test_sloppy_json_is_used_but_never_exact(body, expected, reason):
    answer = parse(tagged(body), BOXES)
    assert answer.status is Status.OK
    assert boxes(answer) == expected
    assert not any(answer.item_exact)
    assert reason in answer.reason


def test_a_bracket_inside_a_string_is_no_bracket():
    answer = parse('[{"bbox_2d": [1, 2, 3, 4], "why": "a ] \\" } b"}]', BOXES)
    assert boxes(answer) == [(1, 2, 3, 4)]
    assert "was not asked for" in answer.reason


def test_a_list_where_one_object_was_asked_for():
    item = '{"bbox": [0, 0, 9, 9], "points_1": [1, 2], "points_2": [3, 4]}'
    for body, several in ((f"[{item}]", False), (f"[{item}, {item}]", True), (f"{item}{item}", True)):
        answer = parse(tagged(body), TWO_POINTS)
        assert len(answer.prompts) == 1
        assert answer.item_exact == (False,)
        assert ("more than one object" in answer.reason) is several


# --- what an item may be ---


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ("[30, 40, 10, 20]", (10, 20, 30, 40)),
        ("[10, 40, 30, 20]", (10, 20, 30, 40)),
        ("[-5, -6.5, 1e3, 2]", (-5, -6.5, 1000, 2)),
        ("[-1000000, 0, 1000000, 1]", (-1e6, 0, 1e6, 1)),
        ("[0.1, 0.2, 0.3, 0.4]", (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_usable_boxes(box, expected):
    answer = parse(f'[{{"bbox_2d": {box}}}]', BOXES)
    assert boxes(answer) == [expected]
    assert answer.item_exact == (True,)


@pytest.mark.parametrize(
    "box", ["[5, 5, 5, 5]", "[5, 1, 5, 9]", "[1, 5, 9, 5]", "[0, 0, -0.0, 1]", "[1e-999, 0, 0, 1]"]
)
def test_a_box_without_area_is_dropped_though_its_form_is_right(box):
    answer = parse(f'[{{"bbox_2d": {box}}}, {BOX}]', BOXES)
    assert boxes(answer) == [(1, 2, 3, 4)]
    assert answer.item_exact == (True, True)
    assert answer.reason == "a box without an area"


@pytest.mark.parametrize(
    "box",
    [
        "[NaN, 0, 1, 1]",
        "[Infinity, 0, 1, 1]",
        "[-Infinity, 0, 1, 1]",
        "[1e309, 0, 1, 1]",
        "[-1e309, 0, 1, 1]",
        "[1000001, 0, 1, 1]",
        f"[{'9' * 5001}, 0, 1, 1]",
        f"[-{'9' * 5001}, 0, 1, 1]",
        "[true, 0, 1, 1]",
        '["1", "2", "3", "4"]',
        "[null, 0, 1, 1]",
        "[[1, 2, 3, 4]]",
        "[[1], 2, 3, 4]",
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        "[]",
        "{}",
        '"[1, 2, 3, 4]"',
        "7",
        "null",
        "[[1, 2], [3, 4]]",
    ],
)
def test_what_is_no_box_is_dropped_and_not_exact(box):
    answer = parse(f'[{BOX}, {{"bbox_2d": {box}}}]', BOXES)
    assert boxes(answer) == [(1, 2, 3, 4)]
    assert answer.item_exact == (True, False)
    assert answer.reason != ""
    assert parse(f'[{{"bbox_2d": {box}}}]', BOXES).status is Status.UNPARSEABLE


@pytest.mark.parametrize(
    ("item", "prompts", "reason"),
    [
        ('{"bbox_2d": [1, 2, 3, 4], "label": "school"}', 1, "not asked for"),
        ('{"bbox_2d": [9, 9, 9, 9], "bbox_2d": [1, 2, 3, 4]}', 1, "given twice"),
        ('{"bbox": [1, 2, 3, 4]}', 0, "missing"),
        ('{"BBOX_2D": [1, 2, 3, 4]}', 0, "missing"),
        ('{"\\ud800": 1}', 0, "missing"),
        ("[1, 2, 3, 4]", 0, "no JSON object"),
        ("3", 0, "no JSON object"),
        ('"x"', 0, "no JSON object"),
        ("[[{}]]", 0, "no JSON object"),
    ],
)
def test_items_that_are_not_exact(item, prompts, reason):
    answer = parse(f"[{item}, {OTHER}]", BOXES)
    assert len(answer.prompts) == prompts + 1
    assert answer.item_exact == (False, True)
    assert reason in answer.reason


@pytest.mark.parametrize(
    ("points", "kept", "reason"),
    [
        ("[[1, 2], [3]]", 1, "no list of 2 numbers"),
        ("[[1, 2], [3, 4, 5]]", 1, "no list of 2 numbers"),
        ("[[1, 2], [NaN, 4]]", 1, "no usable number"),
        ("[[1, 2], [true, 4]]", 1, "no usable number"),
        ("[1, 2]", 0, "no list of 2 numbers"),
        ("{}", 0, "points that are no list"),
        ("null", 0, "points that are no list"),
        (str([[1, 2]] * 33), 32, "more than 32 points"),
    ],
)
def test_bad_points_cost_the_point_not_the_box(points, kept, reason):
    answer = parse(f'[{{"bbox_2d": [1, 2, 3, 4], "points": {points}}}]', REFINE)
    assert [len(prompt.points_xy) for prompt in answer.prompts] == [kept]
    assert answer.item_exact == (False,)
    assert reason in answer.reason


def test_points_may_be_empty_but_not_missing_to_be_exact():
    assert parse('[{"bbox_2d": [1, 2, 3, 4], "points": []}]', REFINE).item_exact == (True,)
    missing = parse(f"[{BOX}]", REFINE)
    assert (missing.item_exact, boxes(missing)) == ((False,), [(1, 2, 3, 4)])
    assert parse('[{"bbox_2d": [1, 2, 3, 4], "points": [], "negative_points": null}]', SIGNED).item_exact == (False,)


def test_points_alone_need_a_positive_one():
    grammar = Grammar(box=None, points="points", negative_points="not")
    assert parse('[{"points": []}]', grammar).status is Status.UNPARSEABLE
    assert parse('[{"points": [], "not": [[1, 2]]}]', grammar).status is Status.UNPARSEABLE
    assert parse('[{"points": [[1, 2]], "not": [[3, 4]]}]', grammar).prompts[0].labels == (1, 0)


def test_too_many_items_are_cut():
    answer = parse(tagged("[" + ",".join([BOX] * 121) + "]"), BOXES)
    assert len(answer.prompts) == len(answer.item_exact) == 120
    assert answer.reason == "more than 120 items"


# --- think format and thinking ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think><answer>[]</answer>", True),
        (" \n<think>a\nb</think>\n\t <answer>\n[]\n</answer> \n", True),
        ("<think></think><answer></answer>", True),
        ("<think>a</think>", False),
        ("<answer>[]</answer>", False),
        ("<think>a</think>b<answer>[]</answer>", False),
        ("<think>a</think><answer>[]</answer>.", False),
        ("so <think>a</think><answer>[]</answer>", False),
        ("<think>a</think><answer>[]</answer><answer>[]</answer>", False),
        ("<think>a</think><think>a</think><answer>[]</answer>", False),
        ("<think>a<answer>[]</answer></think><answer>[]</answer>", False),
        ("<answer>[]</answer><think>a</think>", False),
        ("<think>a<answer>[]</think></answer>", False),
        ("<think>a</think><answer>[]", False),
        ("<Think>a</Think><answer>[]</answer>", False),
        ("", False),
    ],
)
def test_think_format(text, expected):
    assert parse(text, BOXES).think_format is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think> a </think><answer>[]</answer>", "a"),
        ("a</think><answer>[]</answer>", "a"),
        ("<think>a <answer>[]</answer>", "a"),
        ("<think>a", "a"),
        ("<answer>[]</answer>", ""),
        ("<think>思考 \ud800</think>", "思考 ?"),
        ("</think><think>a", ""),
    ],
)
def test_thinking(text, expected):
    assert parse(text, BOXES).thinking == expected


# --- hostile text ---

TEN_MB = 10_000_000
HOSTILE = {
    "opening brackets": "[" * TEN_MB,
    "closing brackets": "]" * TEN_MB,
    "pairs of brackets": "[]" * (TEN_MB // 2),
    "deep nesting": "[" * 5_000_000 + "]" * 5_000_000,
    "too deep by one, again and again": ("[" * 17 + "]" * 17) * (TEN_MB // 34),
    "unfinished objects": '[{"bbox_2d":' * (TEN_MB // 12),
    "quotes": "<answer>[{" + '"' * TEN_MB,
    "escaped quotes": '<answer>["' + '\\"' * (TEN_MB // 2),
    "backslashes": '<answer>["' + "\\" * TEN_MB,
    "items": "<answer>[" + (BOX + ",") * (TEN_MB // 26),
    "objects": BOX * (TEN_MB // 25),
    "answer tags": "<answer>" * (TEN_MB // 8),
    "think tags": "<think>" * (TEN_MB // 7),
    "fences": "```json" * (TEN_MB // 7),
    "white space": " \n" * (TEN_MB // 2),
    "a long number": '<answer>[{"bbox_2d": [' + "1" * 100_000 + ", 1, 2, 3]}]",
    "a long exponent": '<answer>[{"bbox_2d": [1e' + "9" * 100_000 + ", 1, 2, 3]}]",
    "a long fraction": '<answer>[{"bbox_2d": [0.' + "3" * 100_000 + ", 1, 2, 3]}]",
    "many keys": "<answer>[{" + ",".join(f'"k{i}": 1' for i in range(9000)) + "}]",
    "many points": '<answer>[{"bbox_2d": [1, 2, 3, 4], "points": [' + "[1, 2]," * 15_000 + "[1, 2]]}]",
    "surrogates": "<think>" + "\ud800" * 1_000_000 + "</think>[]",
    "zero bytes": "\x00" * TEN_MB,
}


def check_sound(answer, grammar):
    """What holds for every answer whatever the text."""
    assert len(answer.prompts) <= len(answer.item_exact) <= (1 if grammar.single else grammar.max_items)
    assert (answer.status is Status.OK) == bool(answer.prompts)
    assert (answer.status is Status.EMPTY) <= (not answer.item_exact)
    assert len(answer.reason) < 1000
    answer.thinking.encode()
    for prompt in answer.prompts:
        assert (prompt.box_xyxy is None) == (grammar.box is None)
        assert len(prompt.labels) == len(prompt.points_xy) <= len(grammar.point_keys) + 2 * grammar.max_points
        assert set(prompt.labels) <= {0, 1}
        numbers = [number for point in prompt.points_xy for number in point]
        if prompt.box_xyxy is not None:
            x1, y1, x2, y2 = prompt.box_xyxy
            assert x1 < x2
            assert y1 < y2
            numbers += prompt.box_xyxy
        assert all(type(number) is float and abs(number) <= MAX_MAGNITUDE for number in numbers)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_gives_an_answer(name):
    for grammar in (REFINE, TWO_POINTS):
        check_sound(parse(HOSTILE[name], grammar), grammar)


def test_the_json_part_is_read_to_a_bound():
    # A list longer than the bound is one that was cut off: nothing behind the bound is looked at.
    long = "[" + BOX + "," + " " * MAX_CHARS + OTHER + "]"
    assert boxes(parse(f"<answer>{long}</answer>", BOXES)) == [(1, 2, 3, 4)]
    assert boxes(parse("words " * MAX_CHARS + f"[{OTHER}]", BOXES)) == [(5, 6, 7, 8)]


def test_memory_does_not_grow_with_the_number_of_brackets():
    text = "[]" * 2_500_000
    tracemalloc.start()
    parse(text, BOXES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["bbox_2d", "points", "bbox", "point_2d", "points_1", "negative_points", "x"]), inner
        )
    ),
    max_leaves=20,
)
fragments = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "```json",
        "```",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        '"',
        "\\",
        '"bbox_2d"',
        '"points"',
        "[1,2,3,4]",
        "NaN",
        "1e309",
        "-",
        "0",
        BOX,
        OTHER,
        "[]",
        " ",
        "\n",
        "\ud800",
        "学校",
        "\u0661",
        "\u2028",
    ]
)
texts = (
    st.text(st.characters(codec=None))
    | st.lists(fragments, max_size=40).map("".join)
    | json_values.map(json.dumps)
    | st.lists(json_values, max_size=4).map(json.dumps).map(tagged)
    | st.text(alphabet='[]{}",:0123456789.eE+-\\ ' + string.ascii_lowercase)
)


@settings(max_examples=500, deadline=None)
@given(text=texts, grammar=st.sampled_from(GRAMMARS))
@example(text='[{"bbox_2d": [1, 2, 3, 4], "points": [[1, 2]]}]' * 3, grammar=REFINE)
def test_any_text_gives_a_sound_answer(text, grammar):
    check_sound(parse(text, grammar), grammar)


@settings(deadline=None)
@given(items=st.lists(json_values, min_size=1, max_size=6), grammar=st.sampled_from([BOXES, REFINE, POINTS_ONLY]))
def test_a_well_formed_list_has_one_flag_an_item(items, grammar):
    answer = parse(tagged(json.dumps(items)), grammar)
    assert len(answer.item_exact) in (0, len(items))
    assert answer.item_exact or not any(isinstance(item, dict) for item in items)


@settings(deadline=None)
@given(cut=st.integers(0, 200))
def test_cutting_a_list_keeps_its_whole_items(cut):
    text = "<answer>[" + ",".join(f'{{"bbox_2d": [{i}, 0, {i + 1}, 5]}}' for i in range(6)) + "]"
    cut = min(cut, len(text))
    answer = parse(text[:cut], BOXES)
    assert boxes(answer) == [(i, 0, i + 1, 5) for i in range(text[:cut].count("}"))]


# --- frames ---


def test_moved_scales_boxes_and_points_and_nothing_else():
    answer = parse(tagged('[{"bbox_2d": [100, 200, 300, 400], "points": [[500, 1000]]}]'), REFINE)
    moved = answer.moved(Frame((1000, 1000)), Frame((200, 50)))
    assert moved.prompts == (Prompt((20.0, 10.0, 60.0, 20.0), ((100.0, 50.0),), (1,)),)
    assert (moved.status, moved.item_exact, moved.think_format, moved.thinking) == (Status.OK, (True,), True, "hm")


def test_moved_takes_points_without_a_box():
    answer = parse('[{"points": [[10, 20]]}]', POINTS_ONLY)
    assert answer.moved(Frame((100, 100)), Frame((50, 200))).prompts == (Prompt(None, ((5.0, 40.0),), (1,)),)


coordinates = st.integers(-100, 5000)


@st.composite
def prompts_of(draw, grammar):
    box = None
    if grammar.box is not None:
        x1, y1 = draw(coordinates), draw(coordinates)
        box = (float(x1), float(y1), float(x1 + draw(st.integers(1, 900))), float(y1 + draw(st.integers(1, 900))))
    point = st.tuples(coordinates.map(float), coordinates.map(float))
    listed = draw(st.lists(point, max_size=3)) if grammar.points else []
    single = [draw(point) for _ in grammar.point_keys]
    if grammar.box is None and not listed + single:
        listed = [draw(point)]
    negative = draw(st.lists(point, max_size=2)) if grammar.negative_points else []
    positive = [*single, *listed]
    return Prompt(box, (*positive, *negative), (1,) * len(positive) + (0,) * len(negative))


@st.composite
def grammar_and_prompts(draw):
    grammar = draw(st.sampled_from(GRAMMARS))
    most = 1 if grammar.single else 4
    return grammar, tuple(draw(st.lists(prompts_of(grammar), max_size=most)))


@settings(deadline=None)
@given(case=grammar_and_prompts())
def test_what_is_described_is_parsed_back(case):
    grammar, prompts = case
    answer = parse(tagged(describe(prompts, grammar)), grammar)
    assert answer.prompts == prompts
    assert answer.reason == ""
    assert all(answer.item_exact)
    assert answer.status is (Status.OK if prompts else Status.EMPTY)


@settings(deadline=None)
@given(case=grammar_and_prompts(), width=st.integers(50, 4000), height=st.integers(50, 4000))
def test_moving_there_and_back_changes_nothing(case, width, height):
    _, prompts = case
    answer = Answer(Status.OK if prompts else Status.EMPTY, prompts)
    model, image = Frame((1000.0, 1000.0)), Frame((float(width), float(height)))
    back = answer.moved(model, image).moved(image, model)
    for prompt, original in zip(back.prompts, prompts, strict=True):
        numbers = [*(prompt.box_xyxy or ()), *(value for point in prompt.points_xy for value in point)]
        expected = [*(original.box_xyxy or ()), *(value for point in original.points_xy for value in point)]
        assert numbers == pytest.approx(expected, abs=1e-8)


# --- describe ---


def test_describe_writes_whole_numbers_in_the_order_of_the_grammar():
    prompt = Prompt((1.4, 2.6, 30.0, 40.0), ((5.5, 6.4), (7.0, 8.0), (9.0, 9.0)), (1, 1, 0))
    assert describe([prompt], SIGNED) == (
        '[{"bbox_2d": [1, 3, 30, 40], "points": [[6, 6], [7, 8]], "negative_points": [[9, 9]]}]'
    )
    assert describe([Prompt((0, 0, 9, 9), ((1, 2), (3, 4)), (1, 1))], TWO_POINTS) == (
        '{"bbox": [0, 0, 9, 9], "points_1": [1, 2], "points_2": [3, 4]}'
    )
    assert (describe([], BOXES), describe([], TWO_POINTS)) == ("[]", "{}")


@settings(deadline=None)
@given(
    start=st.floats(-1000, 1000),
    extent=st.floats(1e-6, 3),
)
def test_a_thin_box_stays_a_box(start, extent):
    prompt = Prompt((start, 0.0, start + extent, 1.0))
    (back,) = parse(describe([prompt], BOXES), BOXES).prompts
    assert back.box_xyxy is not None
    assert math.fabs(back.box_xyxy[0] - start) <= 1
    assert math.fabs(back.box_xyxy[2] - (start + extent)) <= 1


def test_a_point_that_a_model_left_out_is_left_out_of_the_text():
    answer = parse('[{"bbox_2d": [0, 0, 9, 9]}]', ONE_POINT)
    assert parse(describe(answer.prompts, ONE_POINT), ONE_POINT).prompts == answer.prompts


@pytest.mark.parametrize(
    ("prompts", "grammar", "field"),
    [
        ([Prompt((0, 0, 1, 1))] * 2, Grammar(single=True), "prompts"),
        ([Prompt((0, 0, 1, 1))] * 121, BOXES, "prompts"),
        ([Prompt(None, ((1, 2),), (1,))], BOXES, "box_xyxy"),
        ([Prompt((0, 0, 1, 1))], POINTS_ONLY, "box_xyxy"),
        ([Prompt((0, 0, 1, 1), ((1, 2),), (1,))], BOXES, "points_xy"),
        ([Prompt((0, 0, 1, 1), ((1, 2), (1, 2)), (1, 1))], ONE_POINT, "points_xy"),
        ([Prompt((0, 0, 1, 1), ((1, 2),), (0,))], REFINE, "labels"),
        ([Prompt((0, 0, 1, 1), ((1, 2),) * 33, (1,) * 33)], REFINE, "points_xy"),
    ],
)
def test_describe_refuses_what_the_grammar_cannot_say(prompts, grammar, field):
    with pytest.raises(ValueError, match=field):
        describe(prompts, grammar)


# --- the types ---


@pytest.mark.parametrize(
    ("settings_", "field"),
    [
        ({"box": None}, "box or points"),
        ({"box": None, "negative_points": "n"}, "box or points"),
        ({"points": "bbox_2d"}, "used once"),
        ({"point_keys": ("p", "p")}, "used once"),
        ({"max_items": 0}, "max_items"),
        ({"max_points": -1}, "max_points"),
    ],
)
def test_a_grammar_that_no_answer_can_follow_is_refused(settings_, field):
    with pytest.raises(ValueError, match=field):
        Grammar(**settings_)


def test_a_prompt_has_a_label_for_each_point():
    with pytest.raises(AssertionError):
        Prompt((0, 0, 1, 1), ((1, 2),), ())
    assert Prompt(None, ((1, 2), (3, 4)), (1, 0)).positive_xy == ((1, 2),)


def test_a_cut_prompt_keeps_the_first_points_of_both_kinds():
    prompt = Prompt((0, 0, 9, 9), ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5)), (1, 1, 1, 0, 0))
    assert prompt.cut(1) == Prompt((0, 0, 9, 9), ((1, 1), (4, 4)), (1, 0))
    assert prompt.cut(3) == prompt
    assert prompt.cut(0) == Prompt((0, 0, 9, 9))
    assert Prompt((0, 0, 9, 9)).cut(2) == Prompt((0, 0, 9, 9))
