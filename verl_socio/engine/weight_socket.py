"""Keeps the weights of two runs on one machine apart.

verl sends weights to vLLM through a socket in /tmp that it names by Ray's job id. The first job of every Ray cluster
has the same id, and each run has a cluster of its own: vLLM would take the weights of whichever run sends first.
"""

import os

import ray

_JOB_ID = "VERL_RAY_JOB_ID"  # what verl's server leaves for the processes of its vLLM


def _unique_job_id() -> str:
    context = ray.get_runtime_context()
    return f"{context.get_job_id()}-{context.get_session_name()}"


def sending_socket(handle: str) -> str:
    """The name for the actor's end.

    Args:
        handle: The name that verl gave it, such as `ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock`.

    Returns:
        The same with the name of Ray's session, which no other cluster has.
    """
    return handle.replace(ray.get_runtime_context().get_job_id(), _unique_job_id())


def name_receiving_socket() -> None:
    """Name vLLM's end alike, in verl's server, from which the processes of its vLLM inherit the name."""
    if ray.is_initialized():
        os.environ[_JOB_ID] = _unique_job_id()
