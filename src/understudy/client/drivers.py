"""Run a conversation: each driver asks what it yields and sends the answer back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from understudy.client.conversation import Answer, Ask, Conversation

_Result = TypeVar("_Result")


def run(conversation: Conversation[_Result], ask: Callable[[Ask], Answer]) -> _Result:
    """The result of a conversation whose questions are answered by a blocking ``ask``. Raises: what either raises."""
    try:
        wanted = next(conversation)
        while True:
            wanted = conversation.send(ask(wanted))
    except StopIteration as stop:
        result: _Result = stop.value
        return result
    finally:
        conversation.close()


async def arun(conversation: Conversation[_Result], ask: Callable[[Ask], Awaitable[Answer]]) -> _Result:
    """The same in an asyncio loop, which goes on while an answer is awaited."""
    try:
        wanted = next(conversation)
        while True:
            wanted = conversation.send(await ask(wanted))
    except StopIteration as stop:
        result: _Result = stop.value
        return result
    finally:
        conversation.close()
