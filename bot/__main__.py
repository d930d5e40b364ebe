"""`python -m bot` is the `baal` command."""

from bot.cli import main

main()
