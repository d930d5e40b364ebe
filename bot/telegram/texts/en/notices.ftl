### What people are told unasked, once. Of each text: its facts. $name may be told as agent_id. $at is a Unix time, and
### where it is not told the moment of the notice.

notice-time = { $time } UTC
notice-day = { $day }, { $time } UTC

## To an agent's owner.

# name
notice-healed = Your agent { $name } was moved to a new machine: its old one failed. Nothing was lost.
# name, minutes, at
notice-healed-lost =
    Your agent { $name } was moved to a new machine: its old one failed. What was said in the { $minutes ->
        [one] minute
       *[other] { $minutes } minutes
    } before { $at } may be missing; everything older is there.
# name
notice-heal-failed = Your agent { $name } stopped working, and it could not be brought back yet. What it knows is kept. Messages to it are kept too. Its card in /list has ⟳ Try again.
# name, at: of the snapshot
notice-restored = Your agent { $name } is back as it was at { $at }.
# name, cap: agent, owner or total
notice-cap = { $cap ->
        [agent] Your agent { $name } was put to sleep: it has used up what one agent may cost.
        [owner] Your agent { $name } was put to sleep: your agents together have used up what they may cost.
       *[total] Your agent { $name } was put to sleep: all agents here together have used up what they may cost.
    } Nothing is lost. It wakes when you write to it next month, or after the operator of this bot has raised that limit.
# name
notice-no-credits = Your agent { $name } was put to sleep: this bot's credits are used up, and machines cannot be paid for. Nothing is lost. It wakes when you write to it after the operator has topped up.

## To the operator.

# name, agent, machine: the new one
notice-operator-healed = Agent { $name } ({ $agent }) was moved to a new machine, { $machine }: its old one failed.
# name, agent, release, why
notice-operator-heal-failed = Agent { $name } ({ $agent }) could not be brought back ({ $why }). What it knows is kept.
# name, agent, release, why
notice-operator-update-failed = Agent { $name } ({ $agent }) could not be updated to { $release } ({ $why }). It goes on with what it had.
# hours, credits
notice-operator-runway = The credits last for { $hours ->
        [one] { $hours } hour
       *[other] { $hours } hours
    } more: { $credits } are left. Top up the wallet, or agents stop.
# count
notice-operator-healing-stopped = { $count ->
        [one] { $count } agent stopped
       *[other] { $count } agents stopped
    } answering within ten minutes. That looks like the network and not like machines, so none is replaced for now. Have a look.
# why
notice-operator-pool = There are no warm machines: { $why }. Agents are still deployed, only slower.
# cap: words for which one
notice-operator-cap = The spend cap ({ $cap }) is reached. What is over it was put to sleep, and nothing new is rented under it.

# rollout: its number, release, reason: may be empty
notice-operator-rollout-done = Rollout { $rollout } is done: agents run { $release }.
notice-operator-rollout-paused =
    Rollout { $rollout } to { $release } has paused.
    { $reason }
    baal rollout resume goes on, baal rollout undo goes back.
notice-operator-rollout-aborted =
    Rollout { $rollout } to { $release } was aborted.
    { $reason }
