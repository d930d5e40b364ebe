"""The wall between an agent's tools and everything else in its container. Standard library only: it runs as root.

A tool call is a request on a socket that only the agent may open. The launcher, root with three capabilities left,
forks a *keeper* per call; the keeper forks the tool, which gives up its user, its limits and (where the kernel has
Landlock) most of the file system and the network before its first instruction. When the call is over the keeper ends
everything that descends from it.
"""
