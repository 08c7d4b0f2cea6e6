"""What a site has answered: on disk before it leaves, so that a question asked twice is answered with the same bytes.

An answer that held noise must not be drawn anew (two draws of one number are less private than one), and a question
about patients that was answered once is not answered again in other words.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from learning import durable, wire
from learning.messages import Code, Refusal

R = TypeVar("R")


class Outbox:
    """The answers of one site, one file each under `folder/<run>/<key>`.

    Args:
        folder: created when absent; readable by its owner only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(self, request: object, run: str, key: str, kind: type[R], compute: Callable[[], R]) -> R:
        """Return the stored answer to `request`, or `compute` it, store it durably, and return it.

        One process at a time: a second one that asks meanwhile waits, and gets the first one's answer.

        Raises:
            Refusal: if `key` of `run` was asked before with another content.
        """
        path = self.folder / run / f"{key}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        asked = wire.digest(request)
        with durable.lock(self.folder / "lock", wait=True):
            if path.exists():
                reply, answered = wire.from_bytes(path.read_bytes(), kind)
                if answered != asked:
                    raise Refusal(Code.REFUSED_POLICY, f"{key!r} of run {run!r} was answered for another request")
                return reply
            reply = compute()
            durable.write(path, wire.to_bytes(reply, note=asked))
            return reply

    def answered(self, run: str, key: str) -> bool:
        """Say whether `key` of `run` has an answer."""
        return (self.folder / run / f"{key}.safetensors").exists()
