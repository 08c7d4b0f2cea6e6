"""A coordinator follows its campaign by what that writes down, and asks Flower, which is dear, only in silence."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server import fleet
from server.failure import write_failure
from server.progress import Journal
from server.rounds import QuorumLost
from tests.hospitals import campaign


class Clock:
    """Stands for the module `time`: nobody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Link:
    """A SuperLink whose campaign says something every `every` seconds, and fails after `ends`."""

    def __init__(self, root: Path, clock: Clock, *, every: float, ends: float) -> None:
        self.root, self.clock, self.every, self.ends = root, clock, every, ends
        self.coordinator = SimpleNamespace(folder=root)
        self.asked: list[float] = []
        self.said = 0
        root.mkdir()

    def submit(self) -> str:
        return "1"

    def check(self) -> None:
        if self.clock.now >= self.every * (self.said + 1) and self.clock.now < self.ends:
            self.said += 1
            Journal(self.root)("views", 0.5, "exchange")
        if self.clock.now >= self.ends and not (self.root / "failure.json").exists():
            write_failure(self.root, QuorumLost("too few", {}))

    def ask(self, *words: str) -> dict[str, Any]:
        self.asked.append(self.clock.now)
        return {"runs": [{"status": "finished" if self.clock.now > self.ends else "running"}]}

    def nodes(self) -> dict[str, str]:
        self.asked.append(self.clock.now)
        return {"aurora": "online" if self.clock.now > self.ends else "registered"}


def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, every: float) -> list[float]:
    monkeypatch.setattr(fleet, "time", clock := Clock())
    link: Any = Link(tmp_path / "campaign", clock, every=every, ends=200.0)
    with pytest.raises(QuorumLost):
        fleet._follow(link, campaign(tmp_path), lambda *_: None)
    return [at for at in link.asked if at < link.ends]


def test_a_campaign_that_tells_is_not_asked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(tmp_path, monkeypatch, every=15.0) == []


def test_a_campaign_that_is_silent_is_asked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(followed(tmp_path, monkeypatch, every=1000.0)) == 9


def test_whoever_waits_long_for_sites_asks_less_and_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "time", clock := Clock())
    link: Any = Link(tmp_path / "campaign", clock, every=1000.0, ends=3600.0)
    fleet._gather(link, campaign(tmp_path, quorum=1), lambda *_: None, 7200.0)
    pauses = [b - a for a, b in zip(link.asked, link.asked[1:], strict=False)]
    assert pauses[0] == fleet.POLL_SECONDS
    assert pauses[-1] == fleet.ASK_SECONDS
    assert pauses == sorted(pauses)
