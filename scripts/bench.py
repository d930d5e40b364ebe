"""Measure Baal beside its floors: the agent, an agent's moves, a rollout, the bot's own loops.

Each part is a process of its own, so that none is measured with what another has left in memory. `--check`
exits with 1 where a goal is missed.
"""

import argparse
import subprocess
import sys

PARTS = ("agent", "moves", "rollout", "loops")


def main() -> int:
    """Run the parts one after the other; 1 if one of them failed, or (`--check`) missed a goal."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options.add_argument("parts", nargs="*", choices=PARTS, metavar="PART", help=", ".join(PARTS) + "; all of them")
    chosen = options.parse_args()
    checked = ["--check"] if chosen.check else []
    codes = [
        subprocess.run([sys.executable, "-m", f"scripts.bench_{part}", *checked], check=False).returncode  # noqa: S603  our own
        for part in chosen.parts or PARTS
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
