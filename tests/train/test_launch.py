import io
from pathlib import Path

import pytest
from omegaconf import DictConfig
from rich.console import Console

from verl_socio.train.launch import _go_on, _stages, launch
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


def test_a_complete_run_tells_how_to_take_it_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.StringIO()
    monkeypatch.setattr("verl_socio.train.launch.console", Console(file=told))
    monkeypatch.setattr("verl_socio.train.launch.newest_whole", lambda folder: Path(folder) / "global_step_50")
    _go_on(resolve("embedded", [f"output_root={tmp_path}"]), tmp_path)
    assert "complete at step 50" in told.getvalue()
    further = ["run=embedded", "trainer.total_training_steps=100", f"output_root={tmp_path}"]
    assert " ".join(further[:2]).replace("100", "N") in told.getvalue()
    # As the message says: without the name these steps would be another run's.
    assert resolve("embedded", further).run_dir == resolve("embedded", further[2:]).run_dir
    assert resolve("embedded", further[1:]).run_dir != resolve("embedded", further[2:]).run_dir


def test_a_stage_that_was_taken_out_is_not_reported() -> None:
    assert _stages(resolve("embedded", ["recipe.stages.refine=null"])) == ["localise"]
    assert _stages(resolve("embedded", [])) == ["localise", "refine"]
