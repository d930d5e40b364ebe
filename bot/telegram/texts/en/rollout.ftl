### What the operator is told of a rollout, once each. Facts: rollout, release, reason.

notice-operator-rollout-paused = Rollout { $rollout } has paused by itself: { $reason }. “baal rollout status” shows how far it is; “resume”, “abort” or “undo” decide.
notice-operator-rollout-done = Rollout { $rollout } is done: all agents that could be updated run { $release }.
notice-operator-rollout-aborted = Rollout { $rollout } to { $release } has ended before its end: { $reason }. What was updated stays so, unless it is undone.
