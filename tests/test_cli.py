"""The command as a user types it. What it starts is tested where that lives."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from verl_socio import cli

FIGURE = Path(__file__).parent / "fixtures" / "socioseg_figure"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: exit code, output, errors."""

    # The product binds it to the terminal; here it must follow the test's capture.
    monkeypatch.setattr("verl_socio.train.launch.console", Console())

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["verl-socio", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], ("train", "doctor", "data")),
        (["train"], ("--dry-run",)),
        (["data"], ("validate", "city", "preview")),
        (["report"], ("make", "compare")),
    ],
)
def test_help_says_what_there_is(
    command: Callable[..., tuple[int, str, str]], words: list[str], told: tuple[str, ...]
) -> None:
    code, out, _ = command(*words, "--help")
    assert code == 0
    assert all(word in out for word in told)


def test_a_word_that_is_no_command_is_a_users_error(command: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = command("trian")
    assert code == 2
    assert "No such command 'trian'" in err


# --- train -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_settings_and_starts_nothing(tmp_path: Path) -> None:
    """In a process of its own: nothing heavy is imported and no folder is made."""
    program = (
        "import sys\nfrom verl_socio import cli\n"
        "sys.argv = ['verl-socio', 'train', 'embedded', '--dry-run', *sys.argv[1:]]\n"
        "try:\n    cli.main()\nfinally:\n"
        "    heavy = {'torch', 'verl', 'vllm', 'ray', 'transformers', 'sam2'} & sys.modules.keys()\n"
        "    sys.stderr.write(f'heavy: {sorted(heavy)}')\n"
    )
    words = [sys.executable, "-c", program, f"output_root={tmp_path}", "data.seed=7", "run=r"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "heavy: []"
    settings = OmegaConf.create(done.stdout)
    assert settings.data.seed == 7
    assert settings.run_dir == str(tmp_path / "r")
    assert settings.actor_rollout_ref.model.path == "embedded"
    assert list(tmp_path.iterdir()) == []


def test_settings_may_stand_before_or_behind_the_option(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    first = command("train", "embedded", "--dry-run", f"output_root={tmp_path}")
    assert first == command("train", "embedded", f"output_root={tmp_path}", "--dry-run")
    assert first[0] == 0
    assert f"run_dir: {tmp_path}" in first[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embedded", "data.no_such=1"], "Could not override 'data.no_such'"),
        (["embedded", "data.train_batch_size=many"], "data.train_batch_size = 'many': must be a number"),
        (["no_such"], "config = 'no_such': must be one of"),
    ],
)
@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_a_users_mistake_is_one_line_with_the_fix_and_code_2(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, words: list[str], message: str, option: list[str]
) -> None:
    code, out, err = command("train", *words, *option, f"output_root={tmp_path}")
    assert code == 2
    assert out == ""
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1
    assert "Fix: " in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [], "nothing was made"


def test_a_model_that_is_not_there_is_found_before_anything_starts(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    words = [f"data.train_files={FIGURE}", "actor_rollout_ref.model.path=/no/such/model", f"output_root={tmp_path}"]
    code, out, err = command("train", "embedded", *words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: actor_rollout_ref.model.path = '/no/such/model': must be a model folder")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_ends_with_code_1(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(*_: object, **__: object) -> None:
        raise RuntimeError("the segmenter failed [everywhere]")

    monkeypatch.setattr("verl_socio.train.launch.launch", launch)
    assert command("train", "embedded") == (1, "", "Error: the segmenter failed [everywhere]\n")


# --- data ------------------------------------------------------------------------------------------------------------


def test_the_real_samples_are_sound(command: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = command("data", "validate", FIGURE)
    assert code == 0
    assert "every row is sound" in err


def test_every_fault_is_listed_with_its_sample(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    copied = tmp_path / "figure"
    shutil.copytree(FIGURE, copied)
    Image.new("L", (9, 9), 255).save(copied / "test" / "fig_class_0" / "mask.png")
    (copied / "test" / "fig_class_1" / "question.json").write_text("{")
    (copied / "test" / "fig_name_0" / "map.png").unlink()
    code, _, err = command("data", "validate", copied)
    assert code == 1
    lines = err.splitlines()
    assert len(lines) == 4
    assert all("Fix" in line for line in lines[:3])
    for name, line in zip(("fig_class_0", "fig_class_1", "fig_name_0"), lines, strict=False):
        assert name in line
    assert lines[-1].endswith("3 faults")
    assert command("data", "validate", copied, "--split", "test")[0] == 1


def test_a_folder_whose_name_reads_as_markup_is_named(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "set[" / "x]"
    shutil.copytree(FIGURE, folder)
    code, _, err = command("data", "validate", folder)
    assert (code, err) == (0, f"{folder}: every row is sound\n")


@pytest.mark.parametrize(
    "words", [["validate", "/no/such"], ["preview", "/no/such"], ["validate", FIGURE, "--split", "x"]]
)
def test_data_that_are_not_there_are_a_users_error(
    command: Callable[..., tuple[int, str, str]], words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command("data", *words)
    assert code == 2
    assert err.startswith("Error: ")
    assert "Fix: " in err


def test_a_city_is_generated_validated_and_shown(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    city, picture = tmp_path / "city", tmp_path / "sheet.png"
    assert command("data", "city", city, "--samples", 10, "--seed", 3, "--size", 64)[0] == 0
    assert Image.open(next(city.rglob("sat.png"))).size == (64, 64)
    assert command("data", "validate", city)[0] == 0
    assert command("data", "preview", city, "--split", "test", "--out", picture)[0] == 0
    assert Image.open(picture).width > 200
    again = tmp_path / "again"
    assert command("data", "city", again, "--samples", 10, "--seed", 3, "--size", 64)[0] == 0
    files = sorted(path.relative_to(city) for path in city.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((city / name).read_bytes() == (again / name).read_bytes() for name in files), (
        "the same seed, the same bytes"
    )


@pytest.mark.parametrize("options", [["--samples", 0], ["--size", 4], ["--samples", -3]])
def test_a_city_that_cannot_be_is_refused(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, options: list[object]
) -> None:
    code, _, err = command("data", "city", tmp_path / "city", *options)
    assert code == 2
    assert "Fix: " in err


def test_a_city_overwrites_nothing(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = command("data", "city", tmp_path, "--samples", 10)
    assert code == 2
    assert "Fix: " in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_refs_file_to_convert_is_chosen_by_name(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    for name in ("instances.json", "refs(google).p", "refs(umd).p"):
        (tmp_path / name).touch()
    code, _, err = command("data", "convert", tmp_path, tmp_path / "out", "--refs", "refs(unc).p")
    assert code == 2
    assert "refs = 'refs(unc).p': must be one of" in err
    assert "refs(google).p, refs(umd).p. Fix: " in err


PLAN = Path(__file__).parents[1] / "configs" / "study" / "city.yaml"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", PLAN, "--seeds", "0;1"], "--seeds = '0;1': must be whole numbers"),
        (["run", "/no/such.yaml"], "plan = '/no/such.yaml': must be a YAML file"),
        (["page", "/no/such.yaml"], "plan = '/no/such.yaml': must be a YAML file"),
    ],
)
def test_a_study_that_cannot_be_is_refused(
    command: Callable[..., tuple[int, str, str]], words: list[object], message: str
) -> None:
    code, _, err = command("study", *words)
    assert code == 2
    assert message in err
    assert "Fix: " in err


# --- report ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["make", "/no/such"], ["compare", "/no/such", "/no/such"]])
def test_a_report_of_nothing_is_a_users_error(command: Callable[..., tuple[int, str, str]], words: list[str]) -> None:
    code, out, err = command("report", *words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: folder = '/no/such': must be an evaluation's folder")
