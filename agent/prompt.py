"""The system prompt: who the agent is. Nothing in it changes between turns, so that model servers can cache it."""

_RULES = (
    "You talk with people in a chat app. Answer in the language of the person's last message, and briefly unless asked "
    "for more. Plain Markdown is shown well; tables and HTML are not. Say so when you do not know something; never "
    "invent facts."
)


def system_prompt(*, name: str, job: str) -> str:
    """Compose the prompt of an agent."""
    return f"You are {name}.\n\n{job}\n\n{_RULES}"
