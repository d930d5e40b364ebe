"""Releases of the agent in a registry here: the one of this tree, and others made of it by a layer each."""

import io
import json

import docker

STORE = "/app/agent/store.py"
APPEND = """\
import compileall
from py_compile import PycInvalidationMode
with open({path!r}, "a") as file:
    file.write({lines!r})
compileall.compile_file({path!r}, force=True, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
"""


def push(client: docker.DockerClient, image: str, repository: str, tag: str) -> str:
    """Put it into its registry; its name by digest. It keeps the tag here until `forget`."""
    client.images.get(image).tag(repository, tag)
    client.images.push(repository, tag=tag)
    # By its own tag: the other may name another image by now.
    digests = client.images.get(f"{repository}:{tag}").attrs["RepoDigests"]
    return str(next(digest for digest in digests if digest.startswith(repository)))


def patched(client: docker.DockerClient, image: str, lines: str) -> str:
    """An image whose agent has these lines at the end of what it knows of its database; its id."""
    command = json.dumps(["python", "-c", APPEND.format(path=STORE, lines=lines)])
    dockerfile = io.BytesIO(f"FROM {image}\nRUN {command}\n".encode())
    made, _ = client.images.build(fileobj=dockerfile, network_mode="none", rm=True, forcerm=True)
    return str(made.id)


def forget(client: docker.DockerClient, repository: str) -> None:
    """Its names here; the registry has its images."""
    for image in client.images.list(repository):
        for name in image.tags:
            if name.startswith(f"{repository}:"):
                client.images.remove(name)
