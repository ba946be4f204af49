"""The command `verl-socio` with a trainer that forgets to send its weights to vLLM after a step."""

from verl_socio import cli
from verl_socio.engine import run


class ForgetfulTaskRunner(run.EpisodeTaskRunner):
    """Trains with a trainer that leaves out every weight update but the first."""

    def run(self, config: object) -> None:
        """Train."""
        from verl_socio.engine.trainer import EpisodeTrainer

        EpisodeTrainer.on_step_end = lambda self: None
        super().run(config)


run.EpisodeTaskRunner = ForgetfulTaskRunner

if __name__ == "__main__":
    cli.main()
