"""The wizard's steps: what a draft becomes by an answer, and the screen it shows. No network, no database."""

import hashlib
import unicodedata
from collections.abc import Sequence

from telegram import InlineKeyboardButton

from bot.accounts.libertai import Model
from bot.errors import Refused
from bot.store.models import Draft, DraftStep
from bot.telegram.keyboards import SUCCESS, Verb, button, rows
from bot.telegram.render import utf16_length
from bot.telegram.screen import Screen
from bot.telegram.texts import Speech

MAX_NAME = 40
MAX_NAME_CODEPOINTS = 160
MAX_JOB = 8_000
SHOWN_JOB = 2_500
"""UTF-16 units of a job on a card: with the rest of it they stay below Telegram's 4,096."""
PART_UNITS = 4_096
"""Where Telegram's clients cut a long paste that has no better place."""
MODELS_SHOWN = 6
JOIN_SECONDS = 2
"""Telegram splits a long paste; its parts come within this time."""
TEMPLATES = ("translator", "cook", "coder")
_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me", "Cn", "Cs"}
_ORDER = (DraftStep.NAME, DraftStep.JOB, DraftStep.MODEL, DraftStep.CHECK)


def answer_name(draft: Draft, text: str) -> None:
    """Take the name; `Refused` if it is none."""
    name = clean_name(text)
    if all(unicodedata.category(character) in _INVISIBLE for character in name):
        raise Refused("name-empty")
    length = perceived_length(name)
    if length > MAX_NAME or len(name) > MAX_NAME_CODEPOINTS:
        raise Refused("name-too-long", length=max(length, len(name) // 4), limit=MAX_NAME)
    draft.name = name
    draft.step = next_step(draft)


def answer_job(draft: Draft, text: str, *, at: float) -> None:
    """Take the job, sent at that Unix time; `Refused` if it is none."""
    job = _without_controls(text).strip()
    if not job:
        raise Refused("job-empty")
    check_job(job)
    draft.job, draft.job_at = job, at
    draft.step = next_step(draft)


def continues_job(draft: Draft, *, at: float) -> bool:
    """A text of that time is the rest of the job that was just sent."""
    is_after_job = draft.step in {DraftStep.MODEL, DraftStep.CHECK} or _is_too_long(draft.job)
    return is_after_job and 0 <= at - draft.job_at <= JOIN_SECONDS


def extend_job(draft: Draft, text: str, *, at: float) -> None:
    """Add the rest of a split paste. One that is too long together is kept, so that no part of it becomes the job."""
    is_cut_anywhere = utf16_length(draft.job) % PART_UNITS == 0
    draft.job += ("" if is_cut_anywhere else "\n") + _without_controls(text).rstrip()
    draft.job_at = at
    if _is_too_long(draft.job):
        draft.step = DraftStep.JOB


def check_job(job: str) -> None:
    """`Refused` if it is too long."""
    if _is_too_long(job):
        raise Refused("job-too-long", length=len(job), limit=MAX_JOB)


def choose_model(draft: Draft, key: str, models: Sequence[Model]) -> bool:
    """Take the model of a button; False if it is no longer offered."""
    for model in models:
        if model_key(model.id) == key:
            draft.model = model.id
            draft.step = next_step(draft)
            return True
    return False


def next_step(draft: Draft) -> DraftStep:
    """The first question without an answer."""
    if not draft.name:
        return DraftStep.NAME
    if not draft.job or _is_too_long(draft.job):
        return DraftStep.JOB
    return DraftStep.CHECK if draft.model else DraftStep.MODEL


def go_to(draft: Draft, step: DraftStep) -> None:
    """Ask a question again, but none behind one that has no answer yet."""
    draft.step = min(step, next_step(draft), key=_ORDER.index)


def step_back(draft: Draft) -> DraftStep:
    """Where ◀ leads: to the check card when everything has an answer, else to the question before."""
    if draft.step is not DraftStep.CHECK and next_step(draft) is DraftStep.CHECK:
        return DraftStep.CHECK
    return _ORDER[max(_ORDER.index(draft.step) - 1, 0)]


def screen(draft: Draft, say: Speech, models: Sequence[Model]) -> Screen:
    """What the wizard shows for a draft."""
    match draft.step:
        case DraftStep.NAME:
            return _name_screen(draft, say)
        case DraftStep.JOB:
            return _job_screen(draft, say)
        case DraftStep.MODEL:
            return _model_screen(draft, say, models)
        case DraftStep.CHECK:
            return _check_screen(draft, say)


def clean_name(text: str) -> str:
    """One line, single spaces, no control characters."""
    return " ".join(_without_controls(text.replace("\n", " ")).split())


def perceived_length(text: str) -> int:
    """Characters as a person counts them: marks, joiners and what is joined belong to the one before."""
    return sum(not _belongs_to_before(text, index) for index in range(len(text)))


def model_key(model_id: str) -> str:
    """What a button carries for a model: its id, or a short hash of one that is too long for a button."""
    if len(model_id.encode()) <= 48:  # noqa: PLR2004  64 bytes less version and verb
        return model_id
    return hashlib.blake2b(model_id.encode(), digest_size=12).hexdigest()


def shortened(job: str) -> str:
    """A job as cards show it."""
    if utf16_length(job) <= SHOWN_JOB:
        return job
    end = len(job.encode("utf-16-le")[: 2 * SHOWN_JOB].decode("utf-16-le", errors="ignore"))
    while end and _belongs_to_before(job, end):
        end -= 1
    return f"{job[:end].rstrip()} …"


def offer(
    models: Sequence[Model], chosen: str, say: Speech, verb: Verb
) -> tuple[list[list[InlineKeyboardButton]], list[str]]:
    """A button for each model that is offered, and a line for each whose price is known."""
    offered = models[:MODELS_SHOWN]
    lines = [[button(_label(model, chosen), verb, model_key(model.id))] for model in offered]
    prices = [_price(model, say) for model in offered if model.price_in is not None and model.price_out is not None]
    return lines, prices


def _name_screen(draft: Draft, say: Speech) -> Screen:
    line = [button(say.plain("suggest"), Verb.SUGGEST), button(say.plain("cancel"), Verb.CANCEL)]
    back = [button(say.plain("back"), Verb.STEP, DraftStep.CHECK)] if next_step(draft) is DraftStep.CHECK else []
    return Screen(say("wizard-name", limit=MAX_NAME), rows(line, back))


def _job_screen(draft: Draft, say: Speech) -> Screen:
    templates = [button(say.plain(f"template-{name}"), Verb.TEMPLATE, name) for name in TEMPLATES]
    return Screen(say("wizard-job", name=draft.name), rows(templates, _way_out(draft, say)))


def _model_screen(draft: Draft, say: Speech, models: Sequence[Model]) -> Screen:
    lines, prices = offer(models, draft.model, say, Verb.MODEL)
    return Screen("\n".join([say("wizard-model", name=draft.name), *prices]), rows(*lines, _way_out(draft, say)))


def _check_screen(draft: Draft, say: Speech) -> Screen:
    text = say("wizard-check", name=draft.name, model=draft.model, job=shortened(draft.job))
    edits = [
        button(say.plain("edit-name"), Verb.STEP, DraftStep.NAME),
        button(say.plain("edit-job"), Verb.STEP, DraftStep.JOB),
        button(say.plain("edit-model"), Verb.STEP, DraftStep.MODEL),
    ]
    deploy = button(say.plain("deploy"), Verb.DEPLOY, draft.link, style=SUCCESS)
    return Screen(text, rows([deploy], edits, [button(say.plain("cancel"), Verb.CANCEL)]))


def _way_out(draft: Draft, say: Speech) -> list[InlineKeyboardButton]:
    return [button(say.plain("back"), Verb.STEP, step_back(draft)), button(say.plain("cancel"), Verb.CANCEL)]


def _label(model: Model, chosen: str) -> str:
    marks = [mark for mark, has in (("👁", model.vision), ("🔒 TEE", model.tee), ("✓", model.id == chosen)) if has]
    return " ".join([model.id, *marks])


def _price(model: Model, say: Speech) -> str:
    per_thousand = {"in": f"{(model.price_in or 0) / 1000:g}", "out": f"{(model.price_out or 0) / 1000:g}"}
    return say("wizard-price", id=model.id, **per_thousand)


def _is_too_long(job: str) -> bool:
    return len(job) > MAX_JOB


def _belongs_to_before(text: str, index: int) -> bool:
    is_part = unicodedata.category(text[index]) in {"Mn", "Me", "Cf"} or "\U0001f3fb" <= text[index] <= "\U0001f3ff"
    return is_part or text[index - 1 : index] == "\u200d"


def _without_controls(text: str) -> str:
    return "".join(character for character in text if character in "\n\t" or unicodedata.category(character) != "Cc")
