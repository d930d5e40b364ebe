"""What the model should know besides what was said, without costing model servers their caches.

A server's cache holds beginnings: whatever changes in the middle of what is sent makes it read all the rest anew. So an
aside is kept with the question that it went with, and sent again with it to the byte, over turns and days. That would
add up if each had everything; so only the moment (the time, who speaks: some 30 tokens) goes with every question. The
facts (notes: up to 2,000 tokens) go with the first one and then with the first after each change: the newest facts in
the chat are the valid ones. What they may add up to is bounded by compaction, which takes the old ones out, as it does
with old results, when the beginning changes anyway; the newest question then has them again.

Facts have a scope, since an owner and a visitor may speak in one chat: what belongs to another is not sent.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from agent.store import Aside, Message

_FRAME = "{text}\n\n[Not written by the person, but for your information:\n{aside}]"
NO_FACTS = "What you were told in such a note before does not hold any more."


def due(rows: Sequence[tuple[int, Message]], now: Aside) -> Aside | None:
    """What must go with the last of these numbered messages, a question; `None` if that is there already."""
    known = next((each.aside.facts for _, each in reversed(rows) if each.aside and each.aside.facts), "")
    facts = now.facts or (NO_FACTS if known else "")
    kept = rows[-1][1].aside
    if kept:
        return None if facts == known else replace(kept, facts=facts)
    aside = replace(now, facts="" if facts == known else facts)
    return aside if aside.moment or aside.facts else None


def shown(message: Message) -> Message:
    """As the model reads it."""
    if message.aside is None:
        return message
    aside = "\n".join(filter(None, (message.aside.moment, message.aside.facts)))
    return Message(message.speaker, _FRAME.format(text=message.text, aside=aside), images=message.images)


def within(message: Message, scope: str) -> Message:
    """Without what is not for this scope."""
    return replace(message, aside=None) if message.aside and message.aside.scope != scope else message
