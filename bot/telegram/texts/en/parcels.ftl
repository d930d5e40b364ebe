### /export and /import: an agent's whole state as a file.

export-which = <b>Which one?</b> I send you all it knows as a file: conversations, memory, files.
export-packing = 📦 Packing { $name }…
export-caption = All that { $name } knows: conversations, memory, files. No keys are in it; whoever has the file can read everything else. /import puts it back.
export-too-large = { $name } has { $size } MB of files and memory. Packed, that is more than the { $limit } MB that Telegram takes. Ask it to delete what it no longer needs from its files, then try again.
export-nothing = { $name } is still being set up: there is nothing to export yet.
export-failed = { $name } could not be packed just now. Try again in a minute.

import-send = <b>Send me the file</b> that /export gave you (it ends in .baal.tar.gz). Telegram gives bots files up to 20 MB. I ask before anything is replaced; /cancel stops it.
import-choose =
    <b>Whose state shall this become?</b> It is of { $made } (UTC) and holds { $messages ->
        [one] { $messages } message
       *[other] { $messages } messages
    }.
    For a new agent make it first (/create), then send /import again.
import-into = ♻ { $name }
import-sure =
    <b>Put it in place of what { $name } knows?</b> Then { $name } knows what the file holds: { $messages ->
        [one] { $messages } message
       *[other] { $messages } messages
    }, as of { $made } (UTC). What it knows today is kept as a snapshot for 7 days: ask the operator of this bot for it. Name, job and model stay as they are.
import-now = ♻ Put it in place
import-working = ♻ Putting it in place… Messages to { $name } wait meanwhile.
import-done = ✅ { $name } now knows what was in the file.
import-failed = { $name } could not take it just now. Nothing has changed.
import-refused = { $name } could not take it: { $reason } Nothing has changed.
import-not-ours = That is not a file that /export made, or it was damaged on its way. Nothing has changed.
import-swells = That file unpacks to more than { $limit } MB, so it was not used. Nothing has changed.
import-too-large = That file has { $size } MB, and Telegram gives bots 20 MB at most. Nothing has changed.
import-file = The file
import-gone = That file is no longer waiting. Send /import again.
import-without-agent = There is no agent of yours that could take it. Make one first, then send /import.
import-cancelled = Cancelled. Nothing has changed.
