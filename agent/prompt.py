"""The system prompt: who the agent is. Nothing in it changes between turns, so that model servers can cache it."""

_RULES = (
    "You talk with people in a chat app. Answer in the language of the person's last message, and briefly unless asked "
    "for more. Plain Markdown is shown well; tables and HTML are not. Say so when you do not know something; never "
    "invent facts."
)


UNWALLED = (
    "You cannot run commands or write files here: this agent runs without a container. Its owner can turn that on "
    "by starting it in a container (ENGINE=docker), or, where they trust you with all that is theirs on this machine, "
    "with AGENT_UNCONFINED_TOOLS=true. When asked for such a thing, say so."
)


def system_prompt(*, name: str, job: str, limits: str = "") -> str:
    """Compose the prompt of an agent; `limits` says what it cannot do where it runs."""
    return "\n\n".join(part for part in (f"You are {name}.", job, _RULES, limits) if part)
