### Welcome, help, and opening an agent's link.

welcome =
    <b>Baal — your own AI agent, on its own machine</b>
    Give it a name, a job and a model. In a few minutes it has a private machine and a link you can share.
how-it-works =
    <b>How it works</b>
    1. /create: name, job, model, check, deploy.
    2. You get a link. Whoever opens it talks to your agent here in Telegram.
    3. Each agent runs on a machine of its own; its conversations are kept there.

    Messages to an agent go to its machine and to the model it uses. Baal stores your agents, and your LibertAI key encrypted if you connect one.
help =
    <b>Agents</b>
    /create: make an agent
    /list: your agents
    /delete: delete one
    /export: all that one knows, as a file
    /import: put such a file back

    <b>Talking</b>
    /new: start the conversation over
    /stop: stop the answer being written
    /manage: leave the agent, back to Baal

    <b>Account</b>
    /login: connect your LibertAI key
    /logout: disconnect it
    /account: key, free messages, agents
home-my-agents = 📋 My agents
home-how = ❓ How it works
home-account = 👤 Account

visitor-card =
    <b>{ $name }</b> · model <code>{ $model }</code> · runs on its own machine
    <i>Your messages go to this agent; its owner runs it. Don't send secrets.</i>
    Say something.
owner-card =
    <b>{ $name }</b> · model <code>{ $model }</code>
    You are talking to your agent. /manage leaves it.
still-deploying = <b>{ $name }</b> is still being set up. Your messages are kept and answered when it is ready.
link-dead = This link no longer works.
agent-failed = { $name } could not be set up yet. Its owner knows.
agent-broken = { $name } is not working at the moment. Its owner knows.
agent-asleep = 💤 { $name } is asleep. It wakes when you write; that takes about a minute.
left = You left { $name }.
left-none = You are not talking to an agent.
not-talking = You are not talking to an agent yet. Open an agent's link, or make your own.
menu-old = That menu is old. Here is a fresh one.
private-only = I work in private chats. Write to me there: t.me/{ $bot }

command-start = Welcome
command-create = Make an agent
command-list = Your agents
command-account = Key, free messages, agents
command-help = What I can do
command-new = Start the conversation over
command-stop = Stop the answer being written
command-manage = Leave this agent
