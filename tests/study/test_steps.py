import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from verl_socio.evaluate.plan import plan
from verl_socio.study.plan import Study
from verl_socio.study.records import collect
from verl_socio.study.steps import Run, baseline_steps, evaluation_name, find_evaluation, runs_of, steps_of
from verl_socio.train.settings import resolve

LAST = {"start": 0, "other": 4, "trained": 4}


def names(runs: list[Run]) -> list[str]:
    return [run.name for run in runs]


def missing(study: Study, run: Run) -> list[str]:
    return [step.name for step in steps_of(study, run) if not step.is_done()]


def run_of(study: Study, variant: str, seed: int = 0) -> Run:
    (run,) = runs_of(study, LAST, [variant], [seed])
    return run


def test_what_comes_first_is_done_seed_by_seed(study: Study) -> None:
    assert names(runs_of(study, LAST, (), ())) == [
        "start seed 0", "trained seed 0", "start seed 1", "trained seed 1", "other seed 0", "other seed 1",
    ]  # fmt: skip
    assert names(runs_of(study, LAST, ["other", "start"], [1])) == ["start seed 1", "other seed 1"]


def test_an_unknown_variant_or_seed_is_refused(study: Study) -> None:
    with pytest.raises(ValueError, match=r"--only = 'nobody': must be one of start, other, trained.*Fix: "):
        runs_of(study, LAST, ["nobody"], ())
    with pytest.raises(ValueError, match=r"--seeds = 7: must be among 0, 1.*Fix: "):
        runs_of(study, LAST, (), [0, 7])


def test_a_training_is_merged_and_evaluated_at_its_end_and_then_on_the_way(study: Study) -> None:
    assert missing(study, run_of(study, "trained")) == [
        "city_plain", "train", "merge-step_4", "test-step_4", "sampled-step_4", "merge-step_2", "test-step_2",
    ]  # fmt: skip


def test_what_no_claim_and_no_curve_asks_for_is_not_evaluated(
    plan_values: dict, read_plan: Callable[[object], Study]
) -> None:
    def asked(variant: str) -> list[str]:
        return [each.name for each in read_plan(plan_values).asked(variant)]

    assert missing(read_plan(plan_values), run_of(read_plan(plan_values), "other")) == [
        "city_plain", "train", "merge-step_4", "test-step_4",
    ]  # fmt: skip
    plan_values["evaluations"] |= {"style": {"split": "map_style", "along": True}, "last": {"split": "new_region"}}
    assert [asked(name) for name in ("start", "other", "trained")] == [
        ["test", "sampled", "style"], ["test"], ["test", "sampled", "style"],
    ], "the curves show what is evaluated along the way, from the start on"  # fmt: skip
    plan_values["claims"]["second"]["fall_from"] = "last"
    assert asked("other") == ["test", "last"]
    plan_values["curves"] = []
    assert asked("start") == ["test", "sampled"]


def test_a_start_without_chance_is_evaluated_once(study: Study) -> None:
    assert missing(study, run_of(study, "start", 0)) == ["city_plain", "test-step_0", "sampled-step_0"]
    assert missing(study, run_of(study, "start", 1)) == ["city_plain", "sampled-step_0"]


def test_the_commands_carry_the_settings_and_the_seed(study: Study) -> None:
    other = {step.name: step.command for step in steps_of(study, run_of(study, "other", 1))}
    assert {"trainer.total_training_steps=4", "data.train_batch_size=4", "data.seed=1"} <= set(other["train"])
    assert f"data.train_files='{study.runs}/cities/plain'" in other["train"]
    commands = {step.name: step.command for step in steps_of(study, run_of(study, "trained", 1))}
    assert f"model='{study.runs}/trained/seed_1/merged/global_step_4'" in commands["sampled-step_4"]
    assert {"sampling.temperature=1.0", "sampling.seed=1"} <= set(commands["sampled-step_4"])
    assert "sampling.seed=1" not in commands["test-step_4"]


@pytest.mark.parametrize("name", ["a=b, [ü] {c} #d", 'it\'s "quoted"', "back\\slash\\", " (x) : %"])
def test_folders_of_any_name_reach_the_verbs_as_they_are(
    plan_values: dict, read_plan: Callable[[object], Study], tmp_path: Path, name: str
) -> None:
    plan_values["runs"] = str(tmp_path / name)
    study = read_plan(plan_values)
    commands = {step.name: step.command for step in steps_of(study, run_of(study, "trained", 1))}
    config = resolve(commands["train"][2], commands["train"][3:])
    assert config.data.train_files == str(tmp_path / name / "cities" / "plain")
    assert config.output_root == str(tmp_path / name / "trained")
    parsed = OverridesParser.create().parse_overrides(list(commands["sampled-step_4"][2:]))
    given = {override.key_or_group: override.value() for override in parsed}
    assert given["model"] == str(tmp_path / name / "trained" / "seed_1" / "merged" / "global_step_4")
    assert (given["data"], given["output_root"]) == (config.data.train_files, config.output_root)


def test_what_is_done_is_told_from_what_the_verbs_leave(
    study: Study, write_checkpoint: Callable[[Path, int], None], write_evaluation: Callable[..., Path]
) -> None:
    run = run_of(study, "trained")
    (study.runs / "cities" / "plain").mkdir(parents=True)
    assert missing(study, run)[0] == "train"
    write_checkpoint(run.folder, 2)
    assert missing(study, run)[0] == "train", "half of it is not done"
    write_checkpoint(run.folder, 4)
    assert missing(study, run)[0] == "merge-step_4"
    (run.folder / "merged" / "global_step_4").mkdir(parents=True)
    assert missing(study, run)[0] == "test-step_4"
    folder = run.folder / "eval" / evaluation_name(study, study.evaluations["test"], 4)
    write_evaluation(folder, {"localise": [0.5]})
    assert missing(study, run) == ["sampled-step_4", "merge-step_2", "test-step_2"]
    (folder / "summary.json").unlink()
    assert missing(study, run)[0] == "test-step_4", "an evaluation without its figures was stopped"


def test_evaluations_of_several_splits_share_a_start_for_what_is_missing(
    plan_values: dict, read_plan: Callable[[object], Study], write_evaluation: Callable[..., Path]
) -> None:
    plan_values["evaluations"] |= {"last": {"split": "new_region"}, "style": {"split": "map_style", "along": True}}
    plan_values["claims"]["improves"]["comparisons"].append({"of": "trained", "against": "start", "evaluation": "last"})
    study = read_plan(plan_values)
    run = run_of(study, "trained")
    assert missing(study, run) == [
        "city_plain", "train", "merge-step_4", "test-step_4", "sampled-step_4", "merge-step_2", "test-step_2",
    ]  # fmt: skip

    def words(name: str) -> list[str]:
        (step,) = [step for step in steps_of(study, run) if step.name == name]
        return [word for word in step.command if word.startswith(("split=", "name="))]

    assert words("test-step_4") == ["split=[test,new_region,map_style]", "name=test-step_4"]
    assert words("test-step_2") == ["split=[test,map_style]", "name=test-step_2"]
    assert words("sampled-step_4") == ["split=test", "name=sampled-step_4-test"]
    # As the verb names the folders of several splits, and that of one.
    split, name = words("test-step_4")
    assert [case.config.name for case in plan(["model=embedded", split, name])] == [
        evaluation_name(study, study.evaluations[each], 4) for each in ("test", "last", "style")
    ]
    write_evaluation(run.folder / "eval" / "test-step_4-test", {"localise": [0.5]})
    assert words("test-step_4") == ["split=[new_region,map_style]", "name=test-step_4"]
    write_evaluation(run.folder / "eval" / "test-step_4-map_style", {"localise": [0.5]})
    assert words("test-step_4") == ["split=new_region", "name=test-step_4-new_region"]
    write_evaluation(run.folder / "eval" / "test-step_4-new_region", {"localise": [0.5]})
    assert "test-step_4" not in missing(study, run)


def test_a_run_with_all_of_its_records_is_done_where_the_runs_are_not(study: Study, keep: Callable[..., None]) -> None:
    run = run_of(study, "trained")
    keep("trained", 0, "test", {"localise": [0.5]})
    keep("trained", 0, "sampled", {"localise": [0.5]})
    shutil.rmtree(study.runs)
    assert missing(study, run) == [
        "city_plain", "train", "merge-step_4", "test-step_4", "sampled-step_4", "merge-step_2", "test-step_2",
    ], "what is left would be that of another training"  # fmt: skip
    keep("trained", 0, "test", {"localise": [0.5]}, at=2)
    shutil.rmtree(study.runs)
    assert missing(study, run) == []
    assert missing(study, run_of(study, "trained", 1))[:2] == ["city_plain", "train"]


def test_a_checkpoint_that_was_not_finished_is_not_done(
    study: Study, write_checkpoint: Callable[[Path, int], None]
) -> None:
    run = run_of(study, "trained")
    write_checkpoint(run.folder, 4)
    (run.folder / "checkpoints" / "global_step_4" / "data.pt").write_bytes(b"")
    assert "train" in missing(study, run)


def test_the_evaluation_of_a_start_is_found_below_its_models_name(
    study: Study, write_evaluation: Callable[..., Path]
) -> None:
    run = run_of(study, "start")
    test = study.evaluations["test"]
    assert find_evaluation(study, run, test, 0) is None
    folder = write_evaluation(run.folder / "qwen2_5_vl" / "eval" / "test-step_0-test", {"localise": [0.5]})
    assert find_evaluation(study, run, test, 0) == folder


def test_a_baseline_is_done_when_its_record_is_there(study: Study) -> None:
    city, boxes = baseline_steps(study)
    assert (city.name, boxes.name) == ("city_plain", "true_boxes")
    assert boxes.command[-4:] == ("--points", "0", "--points", "2")
    assert not boxes.is_done()
    (study.runs / "baselines").mkdir(parents=True)
    (study.runs / "baselines" / "true_boxes.json").write_text("{}")
    assert boxes.is_done()
    collect(study, ())
    shutil.rmtree(study.runs)
    assert city.is_done()
    assert boxes.is_done()
