"""The command `verl-socio` with a trainer that sends its weights to vLLM after the first step and then no more."""

from verl_socio import cli
from verl_socio.engine import run


class ForgetfulTaskRunner(run.EpisodeTaskRunner):
    """Trains with a trainer that leaves out every weight update but the first two: at the start and after a step."""

    def run(self, config: object) -> None:
        """Train."""
        from verl_socio.engine.trainer import EpisodeTrainer

        send = EpisodeTrainer.on_step_end

        def send_once(trainer: EpisodeTrainer) -> None:
            if trainer.global_steps == 1:
                send(trainer)

        EpisodeTrainer.on_step_end = send_once
        super().run(config)


run.EpisodeTaskRunner = ForgetfulTaskRunner

if __name__ == "__main__":
    cli.main()
