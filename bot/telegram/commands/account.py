"""/login, /logout, /account. A key is deleted from the chat first, then checked, then kept encrypted."""

from pydantic import SecretStr
from telegram.error import BadRequest, TelegramError

from bot.accounts.libertai import KeyState
from bot.errors import LibertAIUnreachable
from bot.telegram.context import Context
from bot.telegram.keyboards import Verb, button, rows
from bot.telegram.screen import Screen
from bot.telegram.texts import Speech

ALREADY_DELETED = "message to delete not found"


async def login(context: Context) -> None:
    """/login KEY, or /login and the key as the next message."""
    key = await context.services.inbox.key(context.incoming.update_id)
    if context.chat.type != context.chat.PRIVATE:
        await _delete_message(context)
        await context.tell("login-private")
    elif key is None:
        await ask_key(context)
    else:
        await take_key(context, key)


async def ask_key(context: Context) -> None:
    """The next message is the key."""
    await context.services.chats.want_key(context.chat.id)
    await context.tell("login-send")


async def take_key(context: Context, key: SecretStr) -> None:
    """Delete the message, check the key, keep it."""
    if not await _delete_message(context):
        await context.tell("login-delete-yourself")
    await context.services.chats.want_key(context.chat.id, wanted=False)
    try:
        check = await context.services.libertai.check(key)
    except LibertAIUnreachable:
        await context.tell("login-unreachable")
        return
    match check.state:
        case KeyState.UNKNOWN:
            await context.tell("login-unknown")
        case KeyState.BLOCKED:
            await context.tell("login-blocked", reason=_reason(context.say, check.reason))
        case KeyState.GOOD:
            await context.services.users.connect(context.user.id, key)
            await _renew_agents(context)
            await context.tell("login-connected", hint=key.get_secret_value()[-4:])


async def logout(context: Context) -> None:
    """Forget their key; their agents think on the operator's again."""
    user = await context.services.users.get(context.user.id)
    if user is None or not user.sealed_key:
        await context.tell("logout-none")
        return
    await context.services.users.disconnect(context.user.id)
    await _renew_agents(context)
    await context.tell("logout-done")


async def account(context: Context) -> None:
    """/account: in a new message."""
    await context.send(await overview(context))


async def show_account(context: Context) -> None:
    """The account, in place of what was there."""
    await context.show(await overview(context))


async def overview(context: Context) -> Screen:
    """Key, usage, free messages, agents."""
    services, say = context.services, context.say
    user = await services.users.get(context.user.id)
    today = await services.limits.today(context.user.id)
    hint = user.key_hint if user else None
    text = say(
        "account",
        state=say.plain("account-connected", hint=hint) if hint else say.plain("account-not-connected"),
        usage=await _usage(context),
        used=today.used,
        limit=today.limit,
        agents=len(await services.agents.owned(context.user.id)),
        most=services.agents.limit,
    )
    keys = [button(say.plain("change-key" if hint else "connect"), Verb.LOGIN)]
    if hint:
        keys.append(button(say.plain("disconnect"), Verb.LOGOUT))
    return Screen(text, rows(keys, [button(say.plain("back"), Verb.HOME)]))


async def _usage(context: Context) -> str:
    say, key = context.say, await context.services.users.key(context.user.id)
    if key is None:
        return say.plain("account-usage-none")
    try:
        usage = await context.services.libertai.usage(key)
    except LibertAIUnreachable:
        return say.plain("account-usage-unknown")
    if usage is None:
        return say.plain("account-usage-rejected")
    return say.plain(
        "account-usage",
        plan=usage.plan,
        window=f"{usage.window_5h_percent:.0f}",
        weekly=f"{usage.weekly_percent:.0f}",
        extra=f"{usage.extra_credits:.2f}",
    )


async def _renew_agents(context: Context) -> None:
    for agent_id in await context.services.agents.renew(context.user.id):
        await context.services.fleet.nudge(agent_id)


async def _delete_message(context: Context) -> bool:
    try:
        return await context.services.bot.delete_message(context.chat.id, context.message.message_id)
    except BadRequest as error:
        # Handled again after a crash, or deleted by the person.
        return ALREADY_DELETED in str(error).lower()
    except TelegramError:
        return False


def _reason(say: Speech, code: str | None) -> str:
    known = {"disabled", "expired", "key_monthly_limit", "no_credits", "extra_credit_cap", "liberclaw_limit"}
    return say.plain(f"reason-{code}" if code in known else "reason-unknown")
