"""A release on its way to all agents: canaries, a soak, batches; it pauses by itself when something is not as it was.

The rows alone say how far it is: whoever looks at them next goes on, whatever ended in between.
"""
