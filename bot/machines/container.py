"""How an agent's container is run: what it may not do, and where its state is."""

from typing import Any

STOP_SECONDS = 30
"""An agent lets running turns end for 20 s."""
PORT = 80
"""Of an agent with TLS_MODE=plain: on loopback or a private network, where nobody else listens in."""
MACHINE, FINGERPRINT = "baal.machine", "baal.fingerprint"
"""Labels of its container."""
VOLUMES = {"data": "/data", "workspace": "/workspace", "caddy": "/caddy"}
_LOG = {"max-size": "5m", "max-file": "2"}


def confinement() -> dict[str, Any]:
    """Options of `containers.create` (docker SDK) that every agent's container has.

    Nothing can be written but volumes and memory, and of root's rights only those are left with which the supervisor
    becomes the users of its children. What a tool may do is less: `agent.sandbox`.
    """
    return {
        "read_only": True,
        "tmpfs": {"/tmp": "size=64m,mode=1777", "/run": "size=1m,mode=755"},  # noqa: S108  the container's
        "cap_drop": ["ALL"],
        "cap_add": ["SETUID", "SETGID", "KILL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": 256,
        "mem_limit": "1g",
        "memswap_limit": "1g",
        "shm_size": "16m",
        "stop_signal": "SIGTERM",
        "log_config": {"type": "json-file", "config": _LOG},
    }


def volumes(container: str) -> dict[str, dict[str, str]]:
    """Names of a container's volumes → where they are mounted. They outlive it."""
    return {f"{container}-{name}": {"bind": folder, "mode": "rw"} for name, folder in VOLUMES.items()}
