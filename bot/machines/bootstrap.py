"""Make a machine ready for agents."""

from bot.machines.ssh import Shell

SECONDS = 30.0


async def bootstrap(shell: Shell) -> None:
    """See that it has a Docker; `NotPrepared` (with the log) if it has none."""
    await shell.run("looking for Docker", "curl -sf --unix-socket /var/run/docker.sock http://d/_ping", seconds=SECONDS)
