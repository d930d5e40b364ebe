"""The tool for a question with ready answers."""

from typing import Annotated

from agent.toolbox import ToolFailed, tool
from agent.tools.desk import Desk

MIN_OPTIONS, MAX_OPTIONS = 2, 8
OPTION_CHARS = 60
"""What fits on a button of a phone."""
QUESTION_CHARS = 1_000


@tool("Asking you")
async def ask(
    desk: Desk,
    question: Annotated[str, "one question"],
    options: Annotated[list[str], "2 to 8 short answers to choose from, each at most 60 characters"],
) -> str:
    """Ask the person a question with buttons, and wait for their choice. It ends your answer: call it last.

    Only where you cannot go on without them and the answers are few; otherwise ask in your answer's text.
    """
    words = question.strip()
    answers = [" ".join(option.split()) for option in options]
    if problem := _problem(words, answers):
        raise ToolFailed(f"{problem} Nothing was asked; call it again.")
    if desk.voice.asked:
        raise ToolFailed("You have asked a question already in this answer. Ask this one after they have answered.")
    desk.voice.ask(words, answers)
    return "They are asked now. What they choose, or write instead, comes as their next message."


def _problem(question: str, options: list[str]) -> str:
    """What is wrong with a question; empty if nothing is."""
    if not 0 < len(question) <= QUESTION_CHARS:
        return f"A question has 1 to {QUESTION_CHARS} characters."
    if not MIN_OPTIONS <= len(options) <= MAX_OPTIONS:
        return f"Give {MIN_OPTIONS} to {MAX_OPTIONS} options."
    if not all(0 < len(option) <= OPTION_CHARS for option in options):
        return f"Each option has 1 to {OPTION_CHARS} characters."
    if len({option.casefold() for option in options}) < len(options):
        return "The options must differ."
    return ""
