### What people are told unasked, once. Of each text: its facts. $name may be told as agent_id; $at is a Unix time.

notice-time = { $time } UTC
notice-day = { $day }, { $time } UTC

## To an agent's owner.

# name
notice-healed = Your agent { $name } was moved to a new machine: its old one failed. Nothing was lost.
# name, minutes, at: when the old machine failed
notice-healed-lost =
    Your agent { $name } was moved to a new machine: its old one failed. What was said in the { $minutes ->
        [one] minute
       *[other] { $minutes } minutes
    } before { $at } may be missing; everything older is there.
# name
notice-heal-failed = Your agent { $name } stopped working, and it could not be brought back yet. What it knows is kept. Messages to it are kept too; its card has ⟳ Try again.
# name, at: the moment it was put back to
notice-restored = Your agent { $name } is back as it was at { $at }.
# name, cap: agent, owner or total
notice-cap = { $cap ->
        [agent] Your agent { $name } was put to sleep: it has used up what one agent may cost.
        [owner] Your agent { $name } was put to sleep: your agents together have used up what they may cost.
       *[total] Your agent { $name } was put to sleep: all agents here together have used up what they may cost.
    } Nothing is lost. It wakes when the operator of this bot raises that limit.
# name
notice-no-credits = Your agent { $name } was put to sleep: this bot's credits are used up, and machines cannot be paid for. Nothing is lost. It wakes when you write to it after the operator has topped up.

## To the operator.

# name, agent_id, cause, minutes: 0 if nothing was lost
notice-operator-healed = Agent { $name } was moved to a new machine: { $cause }. { $minutes ->
        [0] Nothing was lost.
        [one] At most the last minute was lost.
       *[other] At most the last { $minutes } minutes were lost.
    }
# name, code: the four characters in the log
notice-operator-heal-failed = Agent { $name } could not be brought back: all attempts failed. Code { $code } in the log.
# name, release, error
notice-operator-update-failed = Agent { $name } could not be updated to { $release }: { $error }. It goes on with what it had.
# hours, credits
notice-operator-runway = The credits last for { $hours ->
        [one] { $hours } hour
       *[other] { $hours } hours
    } more: { $credits } are left. Top up the wallet, or agents stop.
# count
notice-operator-healing-stopped = { $count ->
        [one] { $count } agent stopped
       *[other] { $count } agents stopped
    } answering within ten minutes. That looks like the network and not like machines, so none is replaced until you have looked.
# why
notice-operator-pool = The pool makes no more warm machines: { $why }. Agents are still deployed, only slower.
# cap: total, or what it is about
notice-operator-cap = The spend cap ({ $cap }) is reached. What is over it was put to sleep; nothing new is rented under it.
