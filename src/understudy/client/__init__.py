"""The client: what a web worker links in order to use sessions. It knows no framework.

``session``
    what an application works with, a ``MutableMapping``.
``visit``, ``draft``
    what one request knows of its session, and what it has changed.
``conversation``
    what is done for a request, written once: generators that read the store and yield what the agent must be asked.
``drivers``
    run a conversation: blocking, or in an asyncio loop.
``store_link``, ``agent_link``, ``async_link``
    who answers: the store itself while there is no agent, or the member's agent over its socket.
``member``, ``runtime``
    what one process shares, opened at its first request and never before.
``spawn``
    starts the member's agent when nobody has.
"""
