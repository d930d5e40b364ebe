"""`baal rollout …`: what can be said. What is done loads much, and stands elsewhere (`rollout_work`)."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any


def add_rollout(commands: Any) -> None:
    """Add the command, with its own commands, to a parser's."""
    about = "Bring a release to all agents, a few at a time; the bot that runs does it."
    rollout = commands.add_parser("rollout", help=about, description=about)
    verbs = rollout.add_subparsers(required=True, metavar="VERB")
    for add in (_start, _status, _pause, _resume, _undo, _abort):
        add(verbs)


def _start(verbs: Any) -> None:
    start = _verb(verbs, "start", "Begin one: canaries, a soak, then batches; it pauses by itself if something fails.")
    start.add_argument("image", metavar="IMAGE", help="registry/name[:tag][@digest], or :tag of what agents run now")
    start.add_argument(
        "--canary", type=_count, metavar="N", help="agents that go first (2 %%, 1 to 5; 0: none, and no soak)"
    )
    _add_plan(start)
    start.add_argument("--keep-canaries", action="store_true", help="do not take canaries back when one of them fails")


def _undo(verbs: Any) -> None:
    undo = _verb(verbs, "undo", "Take the last one back, with all that agents have learnt; one that is open ends.")
    undo.add_argument("--canary", type=_count, default=0, metavar="N", help="agents that go first (0)")
    _add_plan(undo)


def _status(verbs: Any) -> None:
    status = _verb(verbs, "status", "How far it is. Exit code 1 if it is paused, was aborted, or an agent failed.")
    status.add_argument("--json", action="store_true", help="as one JSON object, for scripts")
    status.add_argument("--watch", action="store_true", help="until it is done, or needs you")


def _pause(verbs: Any) -> None:
    pause = _verb(verbs, "pause", "Begin with no more agents; what is under way goes on to its end.")
    pause.add_argument("--reason", default="", metavar="TEXT", help="written down, and shown")


def _resume(verbs: Any) -> None:
    resume = _verb(verbs, "resume", "Go on, and try the agents that failed again.")
    resume.add_argument("--skip-failed", action="store_true", help="go on without them")


def _abort(verbs: Any) -> None:
    abort = _verb(verbs, "abort", "End it: what is under way goes on to its end, what is updated stays.")
    abort.add_argument("--reason", default="", metavar="TEXT", help="written down, and shown")


def _verb(verbs: Any, name: str, about: str) -> Any:
    parser = verbs.add_parser(name, help=about, description=about)
    parser.set_defaults(run=partial(_run, name))
    return parser


def _add_plan(parser: Any) -> None:
    parser.add_argument("--soak", type=_minutes, metavar="MIN", help="minutes that canaries are watched (10)")
    parser.add_argument("--batch", type=_positive, metavar="N", help="agents in the first batch; then 10 %% (5)")
    parser.add_argument("--surge", type=_positive, metavar="N", help="agents updated at the same time (5)")
    parser.add_argument(
        "--max-failed", type=_positive, metavar="N", help="failures in a batch that pause it (2, or 5 %%)"
    )
    parser.add_argument("--patience", type=_minutes, metavar="MIN", help="minutes without progress that pause it (40)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost; change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _run(verb: str, **words: Any) -> None:
    # Here, because `baal --help` should not wait for it.
    from bot.commands.rollout_work import work  # noqa: PLC0415

    sys.exit(work(verb, words))


def _number[T: (int, float)](kind: Callable[[str], T], least: T, words: str) -> Callable[[str], T]:
    def read(text: str) -> T:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is not {words}") from None
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not {words}")
        return value

    return read


_count = _number(int, 0, "a number of agents")
_positive = _number(int, 1, "a number of agents, one at least")
_minutes = _number(float, 0.0, "a number of minutes")
