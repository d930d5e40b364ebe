### What stands around an agent's answer.

relay-stop = ⏹ Stop
relay-retry = ⟳ Retry
relay-continue = ▶ Continue
relay-go-on = Continue.
relay-choose = Please choose:
relay-stopped = ⏹ Stopped
relay-failed = ⚠️ { $reason }
relay-empty = The agent finished without writing an answer. Ask again, perhaps in other words.
relay-tool = { $icon } { $label }…{ $others ->
        [0] { "" }
       *[other] { " " }(+{ $others })
    }
relay-tool-slow = { relay-tool } · { $elapsed }
relay-working = Still working ({ $elapsed }) …
relay-waiting = { $text } · { $elapsed }
relay-file = The whole answer as a file, with its formatting.
relay-file-lost = 📎 { $name } could not be sent.
relay-file-empty = 📎 { $name } is empty, so there is nothing to send.
relay-file-too-large = 📎 { $name } has { $size } MB; Telegram takes 50 MB at most.
