"""A Ray cluster for as long as it is needed: one that is there already, or one of our own that ends with it."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.exceptions import RayTaskError

from verl_socio.errors import invalid

# Where Ray's own commands look for a cluster, too.
ADDRESS = "RAY_ADDRESS"
_PATIENCE_S = 10.0

# Rows and small pictures pass through it one by one; Ray's default is a third of the machine's memory.
_STORE_BYTES = 300_000_000


@contextmanager
def connected(address: str | None, logs: Path) -> Iterator[None]:
    """Be connected to a cluster; inside a process that is connected already, stay so.

    Args:
        address: HOST:PORT, or "auto" for the newest cluster on this machine. None: that of the environment's
            RAY_ADDRESS, and without it a cluster of our own on this machine, which is stopped in the end.
        logs: Where the logs of a cluster of our own go in the end; a folder that does not exist.

    Raises:
        ValueError: There is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    address = address or address_to_join()
    # What Ray says about its own start helps nobody.
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        check_reachable("ray.address", address)
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            raise not_there("ray.address", address, error) from error
        try:
            yield
        finally:
            ray.shutdown()
        return
    ray.init(
        address="local", num_cpus=os.cpu_count(), include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet
    )
    try:
        yield
    finally:
        end(logs)


def address_to_join() -> str | None:
    """The cluster that the environment names; None where there is none to join."""
    return os.environ.get(ADDRESS) or None


def check_reachable(field: str, address: str) -> None:
    """Refuse a HOST:PORT where nobody listens: Ray itself would try again for minutes.

    Raises:
        ValueError: Nobody does; the message names `field`, the setting or variable that gave the address.
    """
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
        except (OSError, OverflowError) as error:
            raise not_there(field, address, error) from error


def not_there(field: str, address: str, error: Exception) -> ValueError:
    """What to say of an address that cannot be joined, and of the setting or variable that gave it."""
    fix = f"start one (ray start --head), correct the address, or leave it and {ADDRESS} empty"
    return invalid(field, address, f"must be a Ray cluster that runs ({error})", fix)


def logs_of_session() -> Path:
    """Where the processes of this session of Ray write their logs, on this machine."""
    return _session() / "logs"


def end(logs: Path) -> None:
    """Stop the cluster that this process has started, if there is one, and keep its logs.

    Args:
        logs: Where they go; a folder that does not exist.
    """
    if ray.is_initialized():
        session = _session()
        ray.shutdown()
        shutil.copytree(session / "logs", logs, ignore=shutil.ignore_patterns("old"))
        shutil.rmtree(session, ignore_errors=True)


def reason_of(error: RayTaskError) -> str:
    """What a person needs of an error that crossed processes: its own message, without the processes' stacks."""
    while isinstance(error.cause, RayTaskError):
        error = error.cause
    return f"{type(error.cause).__name__}: {error.cause}"


def _session() -> Path:
    context = ray.get_runtime_context()
    return Path(context.get_temp_dir(), context.get_session_name())
