### /create: one message, edited from step to step.

wizard-name =
    <b>What should it be called?</b> 1–{ $limit } characters. <i>(1/4)</i>
wizard-job =
    <b>What is { $name }'s job?</b> Write it like to a new colleague: what to do, for whom, in which tone. <i>(2/4)</i>
    A .txt file works too.
wizard-model = <b>Pick a model</b> for { $name }. <i>(3/4)</i>
wizard-price = <code>{ $id }</code>: ${ $in } in, ${ $out } out per 1k tokens
wizard-check =
    <b>Check</b> <i>(4/4)</i>

    <b>Name:</b> { $name }
    <b>Model:</b> <code>{ $model }</code>
    <b>Who may use it:</b> anyone with its link
    <b>Job:</b>
    <blockquote expandable>{ $job }</blockquote>
wizard-resumed = I kept your draft. /cancel throws it away.
wizard-cancelled = Cancelled. Nothing was made.
wizard-nothing-to-cancel = There is nothing to cancel.
wizard-press-a-button = Please choose with one of the buttons above.

suggest = 🎲 Suggest
back = ◀ Back
cancel = ✖ Cancel
deploy = 🚀 Deploy
edit-name = ✏ Name
edit-job = ✏ Job
edit-model = ✏ Model
template-translator = 📚 Translator
template-cook = 🧑‍🍳 Cook
template-coder = 💻 Coder

suggested-names = Ada, Juno, Milo, Nova, Otto, Pia, Remy, Sol, Tilda, Zeno
job-translator = Translate what people write. Find out which two languages they use, and always answer with the translation into the other one. Keep tone and formatting. Add a short note only where a phrase has no good counterpart.
job-cook = Plan meals from what people have at home. Ask for allergies once. Suggest one dish at a time, with amounts, time and steps, and offer a variation when something is missing.
job-coder = Help people write and understand code. Ask for language and version when it matters. Show short, complete examples, explain the reason for each choice in one sentence, and point out what could go wrong.

name-empty = A name needs at least one visible character.
name-too-long = That name has { $length } characters; { $limit } is the most. Try a shorter one.
job-empty = A job needs at least a few words.
job-too-long = That job has { $length } characters; { $limit } is the most. Shorten it and send it again.
job-not-text = I can only read a job from a plain .txt file (UTF-8).
unsupported-here = That doesn't work here — send text.
key-needed = Agents think with a LibertAI key, and none is connected yet. Connect yours with /login, then press Deploy again.
