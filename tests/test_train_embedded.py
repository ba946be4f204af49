"""The scripts that rebuild the embedded models: nothing is replaced before it is measured."""

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from verl_socio.embedded import sam2
from verl_socio.embedded.sam2_training.evaluation import Report
from verl_socio.embedded.warm_start.evaluate import Figures
from verl_socio.embedded.warm_start.settings import Settings, Taken

SCRIPTS = Path(__file__).parents[1] / "training_scripts"
FIGURES = Figures(*np.linspace(0.25, 0.5, 7).tolist())
REPORT = Report(**dict.fromkeys(Report.__dataclass_fields__, 0.25))
Run = Callable[..., None]


@pytest.fixture(params=["sam2", "vlm"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Start one of the scripts, with training and measuring that take no time."""
    monkeypatch.setattr("verl_socio.embedded.sam2_training.scenes.cached_scenes", lambda *_, **__: None)
    monkeypatch.setattr("verl_socio.embedded.sam2_training.stages.train", lambda *_, **__: (sam2.build(), []))
    monkeypatch.setattr("verl_socio.embedded.sam2_training.evaluation.evaluate", lambda *_: REPORT)
    taken = {phase.name: Taken(phase.steps, 1.0) for phase in Settings().phases}
    monkeypatch.setattr("verl_socio.embedded.warm_start.scenes.shoot_all", lambda count, **_: [None] * count)
    monkeypatch.setattr("verl_socio.embedded.warm_start.train.train", lambda *_: taken)
    monkeypatch.setattr("verl_socio.embedded.warm_start.evaluate.measure", lambda *_, **__: FIGURES)
    # Not `syspath_prepend`, which asks all finders to forget, and a library may have left one that cannot.
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    monkeypatch.setattr("environment.enter_environment", lambda script: None)
    threads = torch.get_num_threads()

    def start(*words: str) -> None:
        script = SCRIPTS / f"train_embedded_{request.param}.py"
        monkeypatch.setattr(sys, "argv", [str(script), "--out", str(tmp_path / "out"), *words])
        runpy.run_path(str(script), run_name="__main__")

    yield start
    torch.set_num_threads(threads)


@pytest.mark.parametrize("words", [("--scenes", "0"), ("--seed", "-1")])
def test_numbers_are_checked_before_the_work(run: Run, tmp_path: Path, words: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match=f"^{' = '.join(words)}: must be . or more. Fix: "):
        run(*words)
    assert not (tmp_path / "out").exists()


def test_weights_come_with_their_card(run: Run, tmp_path: Path) -> None:
    run("--scenes", "12", "--work", str(tmp_path / "work"))
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert f"--out {tmp_path / 'out'} --seed 0 --scenes 12`" in card and " 0.25 " in card and "200 " in card
    assert not list(tmp_path.rglob(".*"))


def test_what_cannot_be_measured_replaces_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    for name in ("model.safetensors", "MODEL_CARD.md"):
        (tmp_path / "out" / name).write_text("old")

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("verl_socio.embedded.sam2_training.evaluation.evaluate", fails)
    monkeypatch.setattr("verl_socio.embedded.warm_start.evaluate.measure", fails)
    with pytest.raises(ZeroDivisionError):
        run("--work", str(tmp_path / "work"))
    left = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert left == {"model.safetensors": "old", "MODEL_CARD.md": "old"}


def test_measuring_alone_renews_the_figures_and_nothing_else(run: Run, tmp_path: Path) -> None:
    run("--work", str(tmp_path / "work"))
    card, weights = tmp_path / "out" / "MODEL_CARD.md", tmp_path / "out" / "model.safetensors"
    written, before = weights.read_bytes(), card.read_text().partition("## Figures")[0]
    card.write_text(f"{before}A word of its own.\n\n## Figures\n\nof before\n")
    run("--measure-only")
    assert card.read_text().startswith(f"{before}A word of its own.\n\n## Figures\n\n")
    assert "of before" not in card.read_text() and " 0.25 " in card.read_text()
    assert weights.read_bytes() == written
