"""Whether the verbs would take what a plan asks them for, before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_socio.errors import invalid
from verl_socio.recipes import Recipe
from verl_socio.study.plan import Study, Variant
from verl_socio.study.records import without_root
from verl_socio.study.steps import Run, evaluate_overrides, record_folder, train_overrides
from verl_socio.train import settings
from verl_socio.train.prepare import prepare
from verl_socio.train.run_folder import SETTINGS, binding_differences

# verl's two trainers call it by two names.
_KEEPS = ("max_actor_ckpt_to_keep", "max_ckpt_to_keep")


@dataclass(frozen=True)
class Settled:
    """What a plan comes to.

    Attributes:
        study: The plan.
        settings: The resolved settings of each variant that is trained, with its first seed.
    """

    study: Study
    settings: Mapping[str, DictConfig]

    @property
    def last_steps(self) -> dict[str, int]:
        """The step after which each variant's training ends, 0 without a training."""
        steps = {name: int(config.trainer.total_training_steps) for name, config in self.settings.items()}
        return {name: steps.get(name, 0) for name in self.study.variants}

    def check_unchanged(self, runs: Iterable[Run]) -> None:
        """Refuse trainings that were made with other settings than the plan's.

        Args:
            runs: Each is looked at in its own folder and among the records; no settings there are no fault.

        Raises:
            ValueError: Some differ in more than the verb `train` would let pass.
        """
        for run in runs:
            for folder in (run.folder, record_folder(self.study, run)):
                self._check_unchanged(run, folder)

    def _check_unchanged(self, run: Run, folder: Path) -> None:
        path = folder / SETTINGS
        if run.variant.training is None or not path.is_file():
            return
        before = OmegaConf.to_container(OmegaConf.create(without_root(path.read_text(encoding="utf-8"))))
        config = self.settings[run.variant.name]
        now = OmegaConf.to_container(OmegaConf.create(without_root(OmegaConf.to_yaml(config))))
        ours = {"run", *self.study.trainings[run.variant.training].seeded}
        changed = [each for each in binding_differences(before, now) if each[0] not in ours]
        if changed:
            key, old, new = changed[0]
            rule = f"was made with other settings ({len(changed)} differ; {key} was {old!r} and is now {new!r})"
            fix = "undo the change of the plan, or move the run's folder and its records away and run it again"
            raise invalid(run.name, str(path), rule, fix)


def settle(study: Study) -> Settled:
    """Resolve and check the settings of every training.

    Raises:
        ValueError: A training would refuse its settings; the message names the variant.
    """
    trained = {name: variant for name, variant in study.variants.items() if variant.training is not None}
    return Settled(study, {name: _settings(study, variant) for name, variant in trained.items()})


def check_evaluations(study: Study) -> None:
    """Ask the verb `evaluate` about every evaluation of the plan.

    Raises:
        ValueError: It would refuse the settings; the message names the variant.
    """
    from verl_socio.evaluate.settings import resolve  # torch, which `page` need not wait for

    seen: set[frozenset[str]] = set()
    for variant in study.variants.values():
        for evaluation in study.evaluations.values():
            # A trained model brings its recipe along, and these settings go on top of it.
            recipe = [override for override in variant.train if override.startswith("recipe=")]
            overrides = ("model=embedded", *recipe, *evaluate_overrides(variant, evaluation, variant.seeds[0]))
            if frozenset(overrides) not in seen:
                seen.add(frozenset(overrides))
                with _named(f"variants.{variant.name}, evaluations.{evaluation.name}"):
                    config = resolve(overrides)
                    Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say which of the plan's parts an error comes from."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _settings(study: Study, variant: Variant) -> DictConfig:
    assert variant.training is not None
    where, training = f"variants.{variant.name}", study.trainings[variant.training]
    with _named(where):
        config = settings.resolve(training.config, train_overrides(study, variant, variant.seeds[0]))
        Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    last = config.trainer.total_training_steps
    if not isinstance(last, int) or last < 1:
        rule = "must be set, so that it is known when a run is done"
        raise invalid(f"{where}, trainer.total_training_steps", last, rule, "set it in the plan's trainings")
    _check_kept(where, variant.also_at, last, config)
    # What the word `embedded` stands for is kept by its path.
    prepare(config)
    return config


def _check_kept(where: str, also_at: Iterable[int], last: int, config: DictConfig) -> None:
    """Refuse to wait for a checkpoint that the training will not write, or will remove again."""
    every = config.trainer.save_freq
    key = next(key for key in _KEEPS if key in config.trainer)
    kept = config.trainer[key]
    for at in also_at:
        if not 0 < at < last or every < 1 or at % every:
            rule = f"must be a multiple of trainer.save_freq = {every} below the last step, {last}"
            raise invalid(f"{where}.also_at", at, rule, "choose another step, or save more often")
        if kept is not None and -(-last // every) - at // every >= kept:
            rule = f"is removed again before the end: trainer.{key} = {kept}"
            raise invalid(f"{where}.also_at", at, rule, f"set trainer.{key}=null")
