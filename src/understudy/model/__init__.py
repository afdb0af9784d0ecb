"""The model: what a session is, as values and pure functions.

Everything here is computed from its arguments alone. No module of this layer reads a clock, draws a random
number, opens a file or a socket, or starts a thread; whoever needs a time or random bytes passes them in. So
the same functions run in a web worker, in the agent, inside a store's transaction and in the simulator.

``ids``
    the id in the cookie, how a forged one is refused, and every key that is derived from the configured secret.
``values``
    which Python values an attribute may hold, how they become bytes and come back, and how a change is found.
``encoding``, ``decoding``
    the bytes themselves: how each kind of value is written in msgpack and read again. Used by ``values`` only.
``entry``
    what one member holds for one session: roles, epoch, context and attributes with their dots.
``delta``
    what one member tells another about an entry, given what the other has seen.

Nothing here knows of stores, of the network, of frameworks, or of the configuration.
"""
