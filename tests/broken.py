"""Parts of the product, broken on purpose: what disturbed campaigns are asked must turn red with any of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from client.outbox import Outbox
from learning import durable, wire
from privacy.ledger import PrivacyLedger
from server.federate import Checkpoint


def outbox() -> None:
    """Let a site compute again what it answered before."""

    def answer(self: Outbox, request: object, run: str, key: str, kind: type[Any], compute: Callable[[], Any]) -> Any:
        path = self.folder / run / f"{key}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        reply = compute()
        durable.write(path, wire.to_bytes(reply, note=wire.digest(request)))
        return reply

    Outbox.answer = answer  # type: ignore[method-assign]


def account() -> None:
    """Let a site train with noise without a word in its account."""
    PrivacyLedger.intend = lambda *_, **__: None  # type: ignore[assignment,method-assign]


def checkpoint() -> None:
    """Let a coordinator that is started again know how far it was, but not with which weights."""
    read = Checkpoint.read

    def forgetful(folder: Path) -> Checkpoint | None:
        found = read(folder)
        return found and replace(found, model={n: np.zeros_like(a) for n, a in found.model.items()})

    Checkpoint.read = staticmethod(forgetful)  # type: ignore[method-assign]


PARTS: dict[str, Callable[[], None]] = {part.__name__: part for part in (outbox, account, checkpoint)}
