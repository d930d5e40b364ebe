"""OpenAI's chat completions over the agent's turns: what a client asks, the chat it goes to, how the answer looks."""
