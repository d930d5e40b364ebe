"""Run checks at the same time, each with its own patience."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from bot.doctor.findings import Finding, Mark, Skipped, Wrong
from bot.errors import BadSettings

SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Check:
    """`run` returns what is well, or raises `Wrong` or `Skipped`. It needs the settings named in `needs`."""

    name: str
    run: Callable[[], Awaitable[str]]
    needs: tuple[str, ...] = ()


class Once[T]:
    """A fact that several checks need; found out once, whoever asks first."""

    def __init__(self, find: Callable[[], Awaitable[T]]) -> None:
        self._find = find
        self._finding: asyncio.Future[T] | None = None

    async def get(self) -> T:
        """It, or the error that finding it out ended with."""
        if self._finding is None:
            self._finding = asyncio.ensure_future(self._find())
        # The patience of one check is not that of the others.
        return await asyncio.shield(self._finding)

    async def given(self, what: str) -> T:
        """For a check that is of no use without it: `Skipped`, since another line already says what is wrong."""
        try:
            return await self.get()
        except (Wrong, Skipped, BadSettings):
            raise Skipped(f"not checked: {what}") from None


async def run_all(checks: Sequence[Check], broken: Collection[str], *, seconds: float = SECONDS) -> list[Finding]:
    """What each found, in their order; `broken` are settings that cannot be used."""
    return await asyncio.gather(*(_run(check, broken, seconds) for check in checks))


async def _run(check: Check, broken: Collection[str], seconds: float) -> Finding:
    try:
        _refuse_broken(check, broken)
        async with asyncio.timeout(seconds):
            return Finding(Mark.WELL, check.name, await check.run())
    except Skipped as error:
        return Finding(Mark.SKIPPED, check.name, str(error))
    except (Wrong, BadSettings) as error:
        return Finding(Mark.WRONG, check.name, str(error))
    except TimeoutError:
        return Finding(Mark.WRONG, check.name, f"no answer in {seconds:.0f} s: look whether this host reaches it")
    except Exception as error:  # noqa: BLE001  whatever a library raises may quote a secret
        what = f"cannot be checked ({type(error).__name__}): please report this line"
        return Finding(Mark.WRONG, check.name, what)


def _refuse_broken(check: Check, broken: Collection[str]) -> None:
    names = [name.upper() for name in check.needs if name in broken]
    if names:
        raise Skipped(f"not checked: {', '.join(names)} cannot be used, see above")
