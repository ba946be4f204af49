"""The socket through which vLLM gets its weights, in real Ray clusters."""

import json
import subprocess
import sys
import textwrap


def test_two_clusters_have_two_sockets_each_with_two_ends() -> None:
    # In a process of its own: a cluster, and a job id in the environment, are not for other tests.
    code = """
        import json, os
        from types import SimpleNamespace
        import ray
        from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
        from verl_socio.engine.weight_socket import name_receiving_socket, sending_socket

        def ends():
            ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
            # As verl 0.9.1 does in vLLMHttpServer and in ServerAdapter.
            job = ray.get_runtime_context().get_job_id()
            os.environ["VERL_RAY_JOB_ID"] = job
            sent = sending_socket(f"ipc:///tmp/rl-colocate-zmq-{job}-replica-0-rank-0.sock")
            name_receiving_socket()
            ray.shutdown()
            name_receiving_socket()  # a process that vLLM starts knows no Ray, and inherits the name
            worker = SimpleNamespace(model_runner=None, local_rank=0)
            return job, sent, vLLMColocateWorkerExtension._get_zmq_handle(worker)

        print(json.dumps([ends(), ends()]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    (job, sent, received), (other_job, other_sent, other_received) = json.loads(done.stdout.splitlines()[-1])
    assert sent == received
    assert other_sent == other_received
    assert job == other_job, "verl's own names would be the same"
    assert sent != other_sent, "the weights of one run would reach the other's vLLM"
    assert len(sent.removeprefix("ipc://")) <= 107, "the longest path that a socket may have"
