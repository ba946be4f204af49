"""Rewards: pure terms, registered by name when this package is imported, and their weighted sum."""

# Importing a family registers its terms.
from verl_socio.rewards import boxes, form, masks, points
from verl_socio.rewards.outcome import Outcome, Target
from verl_socio.rewards.own import load_terms
from verl_socio.rewards.registry import TERMS, Reward, RewardSpec, TermSpec, score, term

__all__ = [
    "TERMS",
    "Outcome",
    "Reward",
    "RewardSpec",
    "Target",
    "TermSpec",
    "boxes",
    "form",
    "load_terms",
    "masks",
    "points",
    "score",
    "term",
]
