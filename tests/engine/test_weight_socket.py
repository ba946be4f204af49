"""The socket through which vLLM gets its weights, in a real Ray cluster: one of a fresh process, as a run's is."""

import json
import subprocess
import sys
import textwrap


def ends() -> tuple[str, str]:
    """What the actor binds and what vLLM's process connects to, in a cluster of their own."""
    code = """
        import json, os
        import ray
        from verl_socio.engine.vllm_plugin import prepare_process
        from verl_socio.engine.weight_socket import sending_socket

        ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
        # As verl 0.9.1 does in vLLMHttpServer and in ServerAdapter.
        job = ray.get_runtime_context().get_job_id()
        os.environ["VERL_RAY_JOB_ID"], os.environ["VERL_REPLICA_RANK"] = job, "0"
        sent = sending_socket(f"ipc:///tmp/rl-colocate-zmq-{job}-replica-0-rank-0.sock")
        prepare_process()
        ray.shutdown()
        prepare_process()  # in a process that vLLM starts there is no Ray, and the name is inherited

        from types import SimpleNamespace
        from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
        worker = SimpleNamespace(model_runner=None, local_rank=0)
        print(json.dumps([sent, vLLMColocateWorkerExtension._get_zmq_handle(worker)]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    sent, received = json.loads(done.stdout.splitlines()[-1])
    return sent, received


def test_two_clusters_have_two_sockets_each_with_two_ends() -> None:
    (first, first_end), (second, second_end) = ends(), ends()
    assert first == first_end
    assert second == second_end
    assert first != second, "the weights of one run would reach the other's vLLM"
    assert len(first.removeprefix("ipc://")) <= 107, "the longest path that a socket may have"
