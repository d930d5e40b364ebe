"""The host's port on which a container is published."""

import socket

from docker.models.containers import Container


def last_port(container: Container | None) -> int | None:
    """The one that it was given when it was made."""
    if container is None:
        return None
    published = container.attrs["HostConfig"]["PortBindings"] or {}
    return next((int(place[0]["HostPort"]) for place in published.values()), None)


def free_port() -> int:
    """Not one chosen by Docker: that changes whenever the container is restarted."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])
