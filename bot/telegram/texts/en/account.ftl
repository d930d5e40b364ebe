### LibertAI key and account.

account =
    <b>Account</b>
    LibertAI: { $state }
    { $usage }
    Today: { $used } of { $limit } free messages
    Agents: { $agents } of { $most }
account-connected = connected (…{ $hint })
account-not-connected = not connected
account-usage = Plan { $plan }: { $window } % of 5 hours used, { $weekly } % of the week, ${ $extra } extra
account-usage-unknown = LibertAI did not say how much is used just now.
account-usage-none = Connect your key, and your own agents think on your own allowance.
account-usage-rejected = LibertAI no longer accepts this key. Connect another one.
connect = 🔑 Connect key
change-key = 🔑 Change key
disconnect = 🚪 Disconnect
login-send = Send the key as your next message; I delete it at once. It is stored encrypted. (Waiting 5 minutes; /cancel stops it.)
login-private = Keys belong in a private chat. If you sent one here, treat it as leaked: make a new one at console.libertai.io.
login-cancelled = Cancelled. I am not waiting for a key any more.
login-connected = ✅ Connected as …{ $hint }. Your agents now think on your key.
login-unknown = LibertAI does not know this key. A new key may take half a minute; otherwise copy it again from console.libertai.io.
login-blocked = LibertAI knows this key but refuses it: { $reason }. It was not stored.
reason-disabled = it is disabled
reason-expired = it has expired
reason-key_monthly_limit = its monthly limit is used up
reason-no_credits = the account has no credits
reason-extra_credit_cap = the cap for extra credits is reached
reason-liberclaw_limit = its plan's limit is reached
reason-unknown = no reason given
login-unreachable = LibertAI can't be reached just now, so I could not check the key. It was not stored; try again in a minute.
login-delete-yourself = I could not delete your message with the key. Please delete it yourself.
logout-done = Disconnected. Your agents think on Baal's own key from now on, within the free messages.
logout-none = No key is connected.
