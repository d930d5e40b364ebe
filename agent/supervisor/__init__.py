"""The container's first program, below tini: start the agent, Caddy and the tool launcher, end when one of them does.

It runs as root with three capabilities left (SETUID, SETGID, KILL) and hands each child only what is its own: the
agent its settings and secrets, Caddy where to listen, the launcher nothing. Standard library only.
"""
