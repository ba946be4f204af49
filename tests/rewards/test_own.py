import numpy as np
import pytest

from verl_socio.answer import Answer, Status
from verl_socio.rewards import TERMS, Outcome, RewardSpec, Target, TermSpec, load_terms, score

TERM = """
from verl_socio.rewards import Outcome, term

@term("{name}", 0.0, 1.0)
def own(outcome: Outcome, least: int = 1) -> float:
    return float(len(outcome.answer.prompts) >= least)
"""


@pytest.fixture
def write_terms(tmp_path):
    """Writes a file of terms and forgets afterwards what it registered."""
    before = dict(TERMS)

    def write(text, name="terms.py"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    yield write
    TERMS.clear()
    TERMS.update(before)


def test_a_users_term_is_paid_like_any_other(write_terms):
    path = write_terms(TERM.format(name="own_term"))
    load_terms(path)
    load_terms(path)  # the recipe is read in many places
    outcome = Outcome(Answer(Status.EMPTY), Target.from_mask(np.ones((4, 4), dtype=bool)))
    reward = score(outcome, RewardSpec((TermSpec("own_term", 2.0, {"least": 0}),)))
    assert (reward.total, reward.parts) == (2.0, {"own_term": 1.0})
    with pytest.raises(ValueError, match=r"own_term takes least"):
        TermSpec("own_term", 1.0, {"most": 1})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("def own(:", r"must run without an error \(SyntaxError"),
        ("import no_such_module", r"must run without an error \(ModuleNotFoundError"),
        ("terms", r"must run without an error \(NameError"),
        ("x = 1", "must register a reward term"),
        ("", "must register a reward term"),
        (TERM.format(name="mask_iou"), r"'mask_iou': is registered already"),
        (TERM.format(name="half_made") + "1 + None", r"must run without an error \(TypeError"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_fix(write_terms, text, match):
    before = set(TERMS)
    with pytest.raises(ValueError, match=f"terms_file.*{match}.*Fix: "):
        load_terms(write_terms(text))
    assert set(TERMS) == before


@pytest.mark.parametrize("path", ["no/such.py", "", "terms.txt", "/", "\0"])
def test_a_file_that_is_not_there(path):
    with pytest.raises(ValueError, match=r"recipe\.terms_file = .*must be a Python file"):
        load_terms(path)
