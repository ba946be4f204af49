"""Each recipe's reward against tables of hand-made answers, whose values come from the formulas alone."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from verl_socio.answer import Prompt, describe, parse
from verl_socio.rewards import Outcome, Target, score
from verl_socio.train.settings import shipped_recipe

FOLDER = Path(__file__).parent / "parity"
SPEC = importlib.util.spec_from_file_location("derive", FOLDER / "derive.py")
derive: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(derive)

TABLES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.yaml"))}
CASES = [(table, case) for table, cases in TABLES.items() for case in cases]
# The published settings; the second stage of SocioReasoner has a table of its own.
RECIPES = {name: shipped_recipe(name.removesuffix("_refine")) for name in TABLES}


def mask(rectangles: list[list[int]]) -> np.ndarray:
    mask_hw = np.zeros(derive.SIZE_WH[::-1], dtype=bool)
    for x1, y1, x2, y2 in rectangles:
        mask_hw[y1:y2, x1:x2] = True
    return mask_hw


def ids(value: object) -> str:
    return str(value.get("why")) if isinstance(value, dict) else str(value)


def test_every_recipe_has_forty_answers() -> None:
    counts = {name: len(cases) for name, cases in TABLES.items()}
    counts["socioreasoner"] += counts.pop("socioreasoner_refine")
    assert set(counts) == {"seg_zero", "vision_reasoner", "think2seg", "socioreasoner"}
    assert min(counts.values()) >= 40, counts


def test_the_second_derivation_knows_nothing_of_the_package() -> None:
    imports = [line for line in (FOLDER / "derive.py").read_text().splitlines() if line.startswith(("import", "from"))]
    assert imports and not any("verl_socio" in line for line in imports)


@pytest.mark.parametrize(("table", "case"), CASES, ids=ids)
def test_the_table_says_what_the_formulas_say(table: str, case: dict[str, Any]) -> None:
    values, total = derive.derived(table, case)
    assert case["want"] == pytest.approx(values, abs=1e-9)
    assert case["total"] == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(("table", "case"), CASES, ids=ids)
def test_the_recipe_pays_what_the_table_says(table: str, case: dict[str, Any]) -> None:
    stages = RECIPES[table].stages
    stage = stages[1 if table.endswith("_refine") else 0]
    before = None
    if "before" in case:
        told = describe([Prompt(tuple(map(float, box))) for box in case["before"]], stages[0].grammar)
        before = parse(told, stages[0].grammar)
    answer = parse(derive.text_of(case), stage.grammar)
    target = Target.from_mask(mask(derive.SCENES[case["scene"]]))
    reward = score(Outcome(answer, target, mask(case.get("mask", [])), before), stage.reward)
    assert list(reward.parts) == derive.TERMS[table]
    assert list(reward.parts.values()) == pytest.approx(case["want"], abs=1e-9), answer.reason
    assert reward.total == pytest.approx(case["total"], abs=1e-9)
