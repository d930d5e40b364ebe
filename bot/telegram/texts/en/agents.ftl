### Agents: deployment card, list, card, delete.

deploying =
    <b>Deploying { $name }</b> · { $elapsed }
    { $steps }
bringing-back =
    <b>Bringing { $name } back</b> · { $elapsed }
    { $steps }
step-renting = Machine reserved
step-reaching = Booted
step-preparing = Prepared
step-starting = Agent installed
step-restoring = Memory and files brought back
step-proving = Health check
step-done = ✅ { $step }
step-now = ⏳ { $step }…
step-later = ◻ { $step }
trying-again = ↻ An attempt failed; trying again. Code { $code }.
live =
    🎉 <b>{ $name } is live</b>
    { $link }
asleep = 💤 <b>{ $name }</b> is asleep. It wakes when you write to it.
failed =
    ❌ <b>{ $reason }</b>
    Code { $code }.
failed-nothing-charged = Nothing is being charged: its machine was given back.
error-no-capacity = No machine is free at the moment
error-no-credit = Machines cannot be paid for at the moment
error-spend-cap = What this agent may cost this month is used up
error-not-prepared = The machine could not be prepared
error-not-reached = The machine did not come up
error-not-started = The agent did not start
error-not-handed-over = What it knows did not arrive whole on the new machine
error-healing-stopped = Too many of its machines failed today
error-not-proved = The agent did not pass its health check
error-failed = The deployment did not finish
deleting = 🗑 <b>Deleting { $name }…</b>
gone = 🗑 <b>{ $name } is deleted.</b> Its machine was stopped at { $time } UTC, billing ended.{ $kept ->
        [yes] { " " }For 7 days you can bring it back: /list
       *[no] { "" }
    }

chat = 💬 Chat
copy-link = 📋 Copy link
share = ↗ Share
manage = ⚙ Manage
try-again = ⟳ Try again
delete = 🗑 Delete
delete-yes = 🗑 Yes, delete it
keep-it = Keep it
leave = 🚪 Leave
create = ➕ Create an agent
create-own = ➕ Create your own

list-empty = No agents yet.
list =
    <b>Your agents</b> ({ $count } of { $limit }){ $pages ->
        [1] { "" }
       *[other] { " " }· page { $page } of { $pages }
    }
list-before = ‹
list-after = ›
list-item = { $mark } { $name } · { $state }
state-running = running
state-waiting = being set up
state-returning = coming back
state-asleep = asleep: wakes when you write
state-failed = failed
state-deleting = being deleted
card =
    <b>{ $name }</b> { $mark } { $state } · <code>{ $model }</code> · { $release }{ $tools ->
        [yes] { " " }· tools: yes
        [no] { " " }· tools: no
       *[unknown] { "" }
    }{ $usage }{ $costs }
    { $link }
    Falls asleep when idle: { $idle }
    <blockquote expandable>{ $job }</blockquote>
card-usage =
    Today: { $turns ->
        [one] { $turns } message
       *[other] { $turns } messages
    }, { $tokens ->
        [one] { $tokens } token
       *[other] { $tokens } tokens
    }
card-costs =
    This month: awake for { $hours ->
        [one] { $hours } hour
       *[other] { $hours } hours
    }, { $credits } credits; 30 days like now: { $forecast }
confirm-delete =
    <b>Delete { $name }?</b> Its machine is erased and given back; the link stops working. { $kept ->
        [yes] What it knows is kept for 7 days: until then /list can bring it back. After that it is erased too.
       *[no] There is no undo.
    }
delete-which = Which one? Press it here, or write <code>/delete</code> and the end of its link.
agent-limit =
    { $limit ->
        [one] You have { $limit } agent, and that is the most.
       *[other] You have { $limit } agents, and that is the most.
    } Delete one first: /list
not-yours = There is no agent of yours with that link id. /list shows them.

card-name = ✏️ Name
card-job = 📝 Job
card-model = 🧠 Model
edit-ask-name = <b>What should { $name } be called?</b> Send the new name.
edit-ask-job =
    <b>What is { $name }'s job from now on?</b> Send it whole; a .txt file works too. It is now:
    <blockquote expandable>{ $job }</blockquote>
edit-ask-model = <b>Pick a model</b> for { $name }.
edit-done = ✅ Changed. It counts from the next message on.
edit-done-later = ✅ Saved. { $name } hears of it as soon as it is reachable.
edit-done-asleep = ✅ Saved. It counts from when { $name } wakes.

card-idle = 💤 Sleep
card-export = ⬇ Export
export-first = ⬇ Export first
idle-ask =
    <b>When may { $name } fall asleep?</b> Asleep it costs nothing, and keeps its memory and files. It wakes when somebody writes to it, or when it has something to do; that takes about a minute.
    Now: { $now }
idle-default = as usual here ({ $usual })
idle-never = never: always on
idle-weeks =
    after { $count ->
        [one] { $count } week
       *[other] { $count } weeks
    }
idle-days =
    after { $count ->
        [one] { $count } day
       *[other] { $count } days
    }
idle-hours =
    after { $count ->
        [one] { $count } hour
       *[other] { $count } hours
    }
idle-minutes =
    after { $count ->
        [one] { $count } minute
       *[other] { $count } minutes
    }
idle-chosen = ✓ { $words }

bin = 🗑 Deleted ({ $count })
bin-list =
    <b>Deleted agents</b>
    What they know is kept for 7 days after they were deleted. A press brings one back, with its link.
bin-item = ♻ { $name } · until { $day }
bin-empty = There is no deleted agent left that could be brought back.
