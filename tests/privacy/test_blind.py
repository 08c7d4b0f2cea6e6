"""The blind baseline, beyond what the suite's own tests ask of it."""

from typing import Any

import pytest

from privacy import blind
from tests.privacy.attacks.crowd import crowd


def test_of_many_subjects_some_are_looked_at_and_they_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    fitted = blind._fitted

    def watched(x: Any, label: Any, asked: Any) -> Any:
        seen.append(len(x) + len(asked))
        return fitted(x, label, asked)

    monkeypatch.setattr(blind, "_MOST", 120)
    monkeypatch.setattr(blind, "_fitted", watched)
    members, controls, others = crowd(300, seed=1), crowd(100, seed=2), crowd(100, seed=3, own=3.0)
    alike = blind.blind_auc(members, controls, seed=0)
    assert set(seen) == {120}
    assert alike.low <= 0.5  # what the suite asks of it
    assert blind.blind_auc(controls, others, seed=0).low > 0.5
