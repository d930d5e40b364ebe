"""What the benchmark prints: a line for each measure, beside its floor if it has one, and whether its goal is met."""

from dataclasses import dataclass, field
from statistics import median

WIDTH = 52


@dataclass(slots=True)
class Report:
    """Lines for people, and whether every goal was met. `subject` heads the column of what is measured."""

    subject: str
    met: bool = True
    lines: list[str] = field(default_factory=list)

    def compare(self, name: str, rounds: list[tuple[float, float]], goal: float) -> None:
        """Seconds of (floor, subject) in each round, shown in ms; the goal is one of their ratio."""
        ratio = median(ours / floor for floor, ours in rounds)
        floor, ours = (1000 * median(values) for values in zip(*rounds, strict=True))
        self._add(name, ours, floor, ratio, f"{_verdict(is_met=ratio <= goal)} (at most {goal})", met=ratio <= goal)

    def limit(self, name: str, value: float, goal: float, *, floor: float | None = None) -> None:
        """The goal is one of the value itself."""
        is_met = value <= goal
        self._add(name, value, floor, _ratio(value, floor), f"{_verdict(is_met=is_met)} (at most {goal:g})", met=is_met)

    def tell(self, name: str, value: float, *, floor: float | None = None) -> None:
        """No goal."""
        self._add(name, value, floor, _ratio(value, floor), "", met=True)

    def show(self, *words: str) -> None:
        """Print it below what there is to know about it."""
        print("\n".join(words), end="\n\n")
        print(f"{'':{WIDTH}}{'floor':>9}{self.subject:>9}{'ratio':>8}")
        print("\n".join(self.lines), end="\n\n", flush=True)

    def _add(
        self, name: str, ours: float, floor: float | None, ratio: float | None, verdict: str, *, met: bool
    ) -> None:
        cells = [f"{'' if value is None else f'{value:.2f}':>{width}}" for value, width in ((floor, 9), (ours, 9))]
        cells.append(f"{'' if ratio is None else f'{ratio:.2f}':>8}")
        self.lines.append(f"{name:{WIDTH}}{''.join(cells)}   {verdict}".rstrip())
        self.met = self.met and met


def _ratio(value: float, floor: float | None) -> float | None:
    return value / floor if floor else None


def _verdict(*, is_met: bool) -> str:
    return "ok" if is_met else "MISSED"
