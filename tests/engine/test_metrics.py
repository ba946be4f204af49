import numpy as np
import pytest
import torch

from verl_socio.engine.metrics import agreement, stage_metrics


def test_equal_log_probs_agree_fully() -> None:
    log_probs = torch.tensor([[-0.1, -2.0, -0.5], [-1.0, -3.0, 0.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    values = agreement(log_probs, log_probs.clone(), mask)
    assert values["pearson"] == pytest.approx(1.0, abs=1e-12)
    assert (values["mean_diff"], values["max_diff"]) == (0.0, 0.0)


def test_the_numbers_are_those_of_numpy_over_the_written_tokens_only() -> None:
    rng = np.random.default_rng(0)
    rollout, actor = rng.normal(size=(4, 7)), rng.normal(size=(4, 7))
    mask = rng.integers(0, 2, size=(4, 7))
    spoilt = np.where(mask == 0, 1e6, rollout)
    values = agreement(torch.tensor(spoilt), torch.tensor(actor), torch.tensor(mask))
    chosen = mask.astype(bool)
    assert values["pearson"] == pytest.approx(np.corrcoef(rollout[chosen], actor[chosen])[0, 1], abs=1e-12)
    assert values["mean_diff"] == pytest.approx(np.abs(rollout - actor)[chosen].mean(), abs=1e-12)
    assert values["max_diff"] == pytest.approx(np.abs(rollout - actor)[chosen].max(), abs=1e-12)


def test_a_constant_policy_agrees_only_with_itself() -> None:
    constant, mask = torch.full((2, 3), -6.0), torch.ones(2, 3)
    assert agreement(constant, constant, mask)["pearson"] == 1.0
    assert agreement(constant, constant - 1, mask)["pearson"] == 0.0
    assert agreement(constant, torch.tensor([[-1.0, -2.0, -3.0]] * 2), mask)["pearson"] == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_log_prob_that_is_no_number_never_passes_for_agreement(bad: float) -> None:
    rollout = torch.tensor([[-1.0, -2.0, -3.0]])
    actor = torch.tensor([[-1.0, bad, -3.0]])
    assert agreement(rollout, actor, torch.ones(1, 3))["pearson"] == 0.0


def record(reward: float, intersection: float, union: float, **more: float) -> dict[str, float]:
    """One instance to find, found where the masks share half of their pixels."""
    iou = intersection / union if union else 1.0
    found = {"iou": iou, "intersection": intersection, "union": union, "hits": float(iou >= 0.5)}
    return {"reward": reward, **found, "predicted": 1.0, "targeted": 1.0, **more}


def test_a_stages_numbers_are_means_over_its_rows() -> None:
    records = [
        record(1.0, 30, 60, boxes=1, parse_failure=0),
        record(3.0, 0, 40, boxes=0, parse_failure=1),
        record(2.0, 50, 50, boxes=2, parse_failure=0),
    ]
    summary = stage_metrics("refine", records, ["q", "q", "r"])
    assert summary == {
        "refine/reward": 2.0,
        "refine/boxes": 1.0,
        "refine/parse_failure": pytest.approx(1 / 3),
        "refine/giou": pytest.approx((0.5 + 0 + 1) / 3),
        "refine/giou_error": pytest.approx(np.sqrt(1 / 6 / 3)),
        "refine/ciou": pytest.approx(80 / 150),
        "refine/f1": pytest.approx(4 / 6),
        "refine/reward_std": pytest.approx(np.sqrt(2 / 3)),
        "refine/zero_variance_groups": 0.5,
    }


def test_two_empty_masks_are_a_perfect_answer() -> None:
    summary = stage_metrics("s", [record(1.0, 0, 0), record(1.0, 10, 40)], ["q", "q"])
    assert summary["s/giou"] == pytest.approx(0.625)
    assert summary["s/ciou"] == pytest.approx(0.25)
    alone = stage_metrics("s", [record(1.0, 0, 0)], ["q"])
    assert (alone["s/giou"], alone["s/ciou"]) == (1.0, 1.0)


def test_groups_that_teach_nothing_are_counted_by_question() -> None:
    rewards = {"a": [1, 1, 1], "b": [1, 2, 1], "c": [0, 0, 0], "d": [0.5, 0.5, 0.25]}
    groups = [name for name, values in rewards.items() for _ in values]
    records = [record(value, 1, 2) for values in rewards.values() for value in values]
    order = np.random.default_rng(0).permutation(len(groups))
    summary = stage_metrics("s", [records[index] for index in order], [groups[index] for index in order])
    assert summary["s/zero_variance_groups"] == 0.5
