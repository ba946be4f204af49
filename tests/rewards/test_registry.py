import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_socio.answer import Grammar
from verl_socio.rewards import TERMS, RewardSpec, TermSpec, score, term
from verl_socio.rewards.registry import Term

R1 = RewardSpec(tuple(TermSpec(name) for name in ("think_format", "item_format", "box_accuracy", "box_count")))
R2 = RewardSpec(tuple(TermSpec(name) for name in ("think_format", "refine_format", "mask_iou", "point_count")))
BOX = '[{"bbox_2d": [10, 10, 30, 30]}]'
TARGET = [(10, 10, 30, 30)]


def test_terms_and_ranges():
    assert {name: (known.low, known.high) for name, known in TERMS.items()} == {
        "think_format": (0, 1),
        "item_format": (0, 1),
        "box_accuracy": (0, 2),
        "box_count": (0, 1),
        "refine_format": (0, 1),
        "mask_iou": (0, 1),
        "point_count": (0, 1),
        "answer_format": (0, 1),
        "part_format": (0, 2),
        "non_repeat": (0, 1),
        "object_accuracy": (0, 3),
        "single_box_iou": (0, 1),
        "single_box_l1": (0, 1),
        "points_distance": (0, 1),
    }


def test_the_highest_r1_is_5_and_the_highest_r2_is_4(outcome):
    assert score(outcome(BOX, TARGET), R1).total == 5.0
    refined = '[{"bbox_2d": [10, 10, 30, 30], "points": [[15, 15], [25, 25]]}]'
    made = outcome(refined, TARGET, mask_of=TARGET, before=BOX, grammar=Grammar(points="points"))
    assert score(made, R2).total == 4.0


@pytest.mark.parametrize(
    ("body", "wrap", "total"),
    [
        (BOX, "{}", 0 + 1 + 2 + 1),
        ("[]", "<think>a</think><answer>{}</answer>", 1 + 0 + 0 + math.exp(-2)),
        ("no", "<think>a</think><answer>{}</answer>", 1.0),
        ('[{"bbox_2d": [10, 10, 30, 30]}, {"x": 1}]', "<answer>{}", 0 + 0.5 + 2 + 1),
        ("[" * 10_000, "{}", 0.0),
    ],
)
def test_r1_of_sloppy_answers(outcome, body, wrap, total):
    assert score(outcome(body, TARGET, wrap=wrap), R1).total == pytest.approx(total)


def test_weights_count_in_the_total_and_not_in_the_parts(outcome):
    spec = RewardSpec((TermSpec("think_format", 0.5), TermSpec("box_accuracy", 3.0, {"l1_px": None})))
    reward = score(outcome(BOX, TARGET), spec)
    assert reward.total == 0.5 + 3.0
    assert reward.parts == {"think_format": 1.0, "box_accuracy": 1.0}


@pytest.mark.parametrize(
    ("body", "wrap", "total"),
    [
        (BOX, "<think>a</think><answer>{}</answer>", 5.0),
        (BOX, "<answer>{}</answer>", 0.0),
        ('[{"bbox_2d": [10, 10, 30, 30]}, {"x": 1}]', "<think>a</think><answer>{}</answer>", 0.0),
    ],
)
def test_the_gate_of_the_paper(outcome, body, wrap, total):
    spec = RewardSpec(R1.terms, gate=("think_format", "item_format"))
    reward = score(outcome(body, TARGET, wrap=wrap), spec)
    assert reward.total == total
    assert reward.parts["box_accuracy"] == 2.0  # logged whether the gate is open or not


def test_a_missing_mask_stops_the_scoring(outcome):
    with pytest.raises(ValueError, match="segmenter's mask"):
        score(outcome(BOX, TARGET), RewardSpec((TermSpec("mask_iou"),)))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text()
    | st.text(alphabet='[]{}",:0123456789.eE- ')
    | st.lists(st.integers(-9, 99)).map(lambda box: json.dumps([{"bbox_2d": box, "points": [box]}]))
)
def test_any_text_has_a_finite_reward(outcome, text):
    wrap = text.replace("{", "{{").replace("}", "}}")
    made = outcome("", TARGET, mask_of=[], before=BOX, grammar=Grammar(points="points"), wrap=wrap)
    for spec, high in ((R1, 5), (R2, 4)):
        assert 0.0 <= score(made, spec).total <= high


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("box_acuracy",), r"'box_acuracy'.*must be one of answer_format, box_accuracy, box_count"),
        (("think_format", math.nan), r"think_format\.weight"),
        (("think_format", -0.5), r"reward\.think_format\.weight = -0\.5: must not be negative.*Fix: write a term"),
        (("think_format", math.inf), r"think_format\.weight"),
        (("think_format", "1"), r"think_format\.weight"),
        (("think_format", True), r"think_format\.weight"),
        (("think_format", 1.0, {"mu": 2}), "takes no settings"),
        (("point_count", 1.0, {"nu": 2}), r"point_count takes mu"),
        (("point_count", 1.0, {"mu": "2"}), r"reward\.point_count\.mu = '2'"),
        (("point_count", 1.0, {"mu": None}), r"reward\.point_count\.mu"),
        (("point_count", 1.0, {"mu": math.nan}), r"reward\.point_count\.mu"),
        (("point_count", 1.0, {"mu": True}), r"reward\.point_count\.mu"),
        (("box_accuracy", 1.0, {"max_items": 1.5}), r"reward\.box_accuracy\.max_items"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused_at_once(arguments, match):
    with pytest.raises(ValueError, match=match):
        TermSpec(*arguments)


@pytest.mark.parametrize("params", [{"l1_px": None}, {"l1_px": 5}, {"iou_threshold": 0.7, "max_items": 10}])
def test_lines_that_are_meant(params):
    assert TermSpec("box_accuracy", 2, params).params == params


@pytest.mark.parametrize(
    ("names", "gate", "match"),
    [
        ((), (), "must list a term"),
        (("think_format", "think_format"), (), "listed once"),
        (("think_format",), ("item_format",), r"reward\.gate = 'item_format'"),
    ],
)
def test_a_reward_that_cannot_be_meant_is_refused_at_once(names, gate, match):
    with pytest.raises(ValueError, match=match):
        RewardSpec(tuple(TermSpec(name) for name in names), gate)


@pytest.fixture
def own_term():
    """A user's term, taken out of the registry again."""

    def add(value):
        @term("own", 0.0, 1.0)
        def own(outcome, scale: float = 1.0, names: list[str] | None = None):
            return value * scale

    yield add
    TERMS.pop("own", None)


def test_a_users_own_term(outcome, own_term):
    own_term(0.5)
    spec = RewardSpec((TermSpec("own", 2.0, {"scale": 0.5, "names": ["a"]}),))
    assert score(outcome("[]"), spec).total == 0.5
    assert isinstance(TERMS["own"], Term)
    with pytest.raises(ValueError, match="registered already"):
        own_term(0.5)


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, math.inf])
def test_a_value_out_of_the_registered_range_is_an_error(outcome, own_term, value):
    own_term(value)
    with pytest.raises(ValueError, match=r"reward\.own"):
        score(outcome("[]"), RewardSpec((TermSpec("own"),)))
