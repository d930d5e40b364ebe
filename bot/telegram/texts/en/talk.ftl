### Talking to an agent, and what can go wrong.

agent-down = { $name } is not answering. I'm restarting it; your message is kept.
agent-waking = 💤 { $name } is waking up (about a minute). Your message is kept.
agent-moving = One moment, { $name } is just changing machines. Your message is kept.
agent-not-woken = { $name } could not be woken just now. Your message is kept.
agent-offline = { $name } could not be restarted just now. Your message is kept.
agent-refused = { $name } could not take this message. Its owner may have to update it.
agent-deleted = This agent was deleted.
too-many-waiting =
    { $limit ->
        [one] One message is waiting already.
       *[other] { $limit } messages are waiting already.
    } Send this one again after the next answer.
quota-used =
    You've used today's { $limit ->
        [one] free message
       *[other] { $limit } free messages
    }. They refill in { $hours } h { $minutes } min. With your own LibertAI key, your own agents answer without this limit: /login
forgotten = A fresh start: { $name } has forgotten this conversation.
forgotten-later = A fresh start: { $name } is not awake just now, and forgets this conversation before your next message.
nothing-to-stop = Nothing is being written at the moment.
nothing-to-retry = There is nothing to ask again.
unsupported = Stickers don't work here yet — send text, photo, voice or a file.
file-too-large = { $name } has { $size } MB, and Telegram gives bots 20 MB at most. Send a smaller file, or a link to it.
file-too-big = { $name } is too large: Telegram gives bots 20 MB at most.
file-gone = Telegram no longer has { $name }. Please send it again.
file-not-fetched = { $name } could not be fetched from Telegram just now.
file-refused = { $name } could not be handed over: { $reason }
choice-made = That is answered already.
choice-over = That menu is old. Write to me instead.
choice-not-yours = Somebody else was asked. Write to me yourself.
too-long-message = That message has { $length } characters; { $limit } is the most.
broke = Something broke on our side. Code { $code }. Your message is saved.
again = ⟳ Retry
