"""A registry on loopback, for a while: Debian's `docker-registry`.

`python -m scripts.image.registry` runs one until it is told to stop.
"""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from scripts.image.commands import Refused, in_one_line

PROGRAM = "docker-registry"
START_SECONDS = 20
CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def is_installed() -> bool:
    """Whether this machine can run one."""
    return shutil.which(PROGRAM) is not None


@contextmanager
def loopback_registry(more: str = "", *, images: Path | None = None) -> Iterator[str]:
    """An empty registry, as `127.0.0.1:port`; Docker pushes there without TLS. It ends with its images.

    `more` is added to its configuration. `images`: a folder where they stay, and may be already.
    """
    if not is_installed():
        raise Refused(f"needs {PROGRAM} (Debian: apt-get install {PROGRAM})")
    with tempfile.TemporaryDirectory(prefix="baal-registry-") as folder:
        port = _free_port()
        configuration = Path(folder) / "config.yml"
        configuration.write_text(CONFIGURATION.format(folder=images or folder, port=port) + more)
        with (Path(folder) / "log").open("w+") as log:
            serving = subprocess.Popen((PROGRAM, "serve", str(configuration)), stdout=log, stderr=log)
            try:
                _wait(f"http://127.0.0.1:{port}/v2/", serving, Path(log.name))
                yield f"127.0.0.1:{port}"
            finally:
                serving.terminate()
                serving.wait()


def _free_port() -> int:
    # It may be taken again before the registry has it; then that says so and ends.
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def _wait(url: str, serving: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        if serving.poll() is not None or time.monotonic() > deadline:
            raise Refused(f"{PROGRAM} does not start: {log.read_text()[-500:].strip()}")
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        return not httpx.get(url).is_server_error  # one that wants a password says so
    except httpx.TransportError:
        return False


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # the program that it has started ends with it
    with loopback_registry() as place:
        print(f"registry at http://{place}", flush=True)
        signal.pause()


if __name__ == "__main__":
    sys.exit(in_one_line(main))
