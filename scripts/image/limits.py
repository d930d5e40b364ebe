"""What is measured of the images, what it may be, and what it was in the last release."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

RELEASED = Path("tests") / "image" / "released.json"


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table. A duration says as much of the machine as of the image: it is judged, and never fails."""

    key: str
    words: str
    unit: str = ""
    limit: float | None = None

    @property
    def is_duration(self) -> bool:
        return self.unit == "s"

    def holds(self, value: float) -> bool:
        """Whether that is within the limit."""
        return self.limit is None or value <= self.limit

    def show(self, value: float | None) -> str:
        """A value with its unit."""
        if value is None:
            return "-"
        return f"{value:.{2 if self.is_duration else 0 if not self.unit else 1}f} {self.unit}".strip()


MEASURES = (
    Measure("agent_compressed", "agent image, compressed", "MB", limit=90),
    Measure("agent_layers", "agent image, layers"),
    Measure("bot_compressed", "bot image, compressed", "MB"),
    Measure("bot_layers", "bot image, layers"),
    Measure("start", "docker run to the first 200 through Caddy, best of 3", "s", limit=1.5),
    Measure("idle_memory", "idle memory of the container", "MB", limit=65),
    Measure("rebuild", "rebuild after a change of code", "s", limit=2),
    Measure("push", "push of it", "s", limit=4),
    Measure("changed_layers", "layers that it changed", limit=1),
)


@dataclass(frozen=True, slots=True)
class Released:
    """The measures of a release."""

    version: str
    values: Mapping[str, float]


def read(tree: Path) -> Released | None:
    """Of the last release; None before the first."""
    path = tree / RELEASED
    if not path.exists():
        return None
    written = json.loads(path.read_text())
    return Released(version=written["version"], values=written["measures"])


def write(tree: Path, released: Released) -> None:
    """Keep them for the next one to be compared with."""
    values = {key: round(value, 2) for key, value in released.values.items()}
    (tree / RELEASED).write_text(json.dumps({"version": released.version, "measures": values}, indent=2) + "\n")


def table(values: Mapping[str, float], before: Released | None) -> Iterator[str]:
    """The lines of it: now, the limit, the last release, the verdict."""
    version = before.version if before else "-"
    yield f"{'':52} {'now':>9} {'limit':>9} {version:>9}"
    for measure in MEASURES:
        if measure.key in values:
            yield _row(measure, values[measure.key], before.values.get(measure.key) if before else None)


def _row(measure: Measure, value: float, was: float | None) -> str:
    verdict = (
        "" if measure.limit is None else "ok" if measure.holds(value) else "slow" if measure.is_duration else "TOO MUCH"
    )
    numbers = " ".join(f"{measure.show(number):>9}" for number in (value, measure.limit, was))
    return f"{measure.words:52} {numbers}  {verdict}".rstrip()


def broken(values: Mapping[str, float]) -> list[str]:
    """What is over a limit that must hold."""
    return [
        f"{measure.words}: {measure.show(values[measure.key])}, allowed are {measure.show(measure.limit)}"
        for measure in MEASURES
        if measure.key in values and not measure.is_duration and not measure.holds(values[measure.key])
    ]
