from pathlib import Path

import pytest
from omegaconf import DictConfig

from verl_socio.train.launch import _stages, launch
from verl_socio.train.run_folder import claim
from verl_socio.train.settings import resolve


@pytest.mark.parametrize(("name", "model"), [("embedded", "actor_rollout_ref.model"), ("sft_embedded", "model")])
def test_a_run_holds_its_folder_while_the_engine_works(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, model: str
) -> None:
    worked = []

    def start(config: DictConfig, folder: Path, total: int) -> None:
        with pytest.raises(ValueError, match=r"run = 'mine': is being trained by another process"), claim(config):
            pass
        worked.append(folder)

    monkeypatch.setattr("verl_socio.train.launch._start", start)
    overrides = [f"{model}.path={tiny_model}", f"data.train_files={tiny_data}", "data.train_batch_size=4"]
    for _ in range(2):
        launch(name, [*overrides, "run=mine", f"output_root={tmp_path}"], dry_run=False)
    assert worked == [tmp_path / "mine"] * 2


def test_a_stage_that_was_taken_out_is_not_reported() -> None:
    assert _stages(resolve("embedded", ["recipe.stages.refine=null"])) == ["localise"]
    assert _stages(resolve("embedded", [])) == ["localise", "refine"]
