"""One hospital on disk: its settings, its secrets, its account, what it answered, and its frames.

`folder/` holds `site.yaml` (written by the hospital), `secrets/` (made by `Site.create`, readable by their owner only,
never sent), `ledger.db` and its journal `ledger.jsonl`, `runs/` (what was admitted), `outbox/` (what was answered),
`frames/` (a cache of resized frames, of clips and of labels) and `log` (why something was refused, in words that stay
here).
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from client.outbox import Outbox
from client.policy import Policy, SiteFile, read_site_file
from cohorts.frames import BY_VIEW
from conf.schema import Classes
from learning import durable
from learning.schema import canonical

if TYPE_CHECKING:
    from cohorts.clips import Clips
    from cohorts.frames import Frames
    from cohorts.split import Split
    from cohorts.study import Cohort, SubjectKey
    from evaluation.trust import SigningKey
    from privacy.ledger import PrivacyLedger

T = TypeVar("T")
SITE_FILE, LEDGER = "site.yaml", "ledger.db"
SPLIT, PSEUDONYM, SIGNING = "split.key", "pseudonym.key", "signing.pem"
KEYS = (SPLIT, PSEUDONYM)


class Site:
    """A site folder, opened; heavy things are loaded when first asked for, and once."""

    def __init__(self, folder: Path) -> None:
        """Open `folder`; raises `ValueError` naming what is missing or wrong in it."""
        self.folder = folder
        self.file: SiteFile = read_site_file(folder / SITE_FILE)
        for key in (*KEYS, SIGNING):
            if not (folder / "secrets" / key).is_file():
                raise ValueError(f"{folder / 'secrets' / key} is missing: a site folder is made by Site.create")
        self.outbox = Outbox(folder / "outbox")

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        name: str,
        cohort: Mapping[str, Any],
        public_subjects: int,
        policy: Policy,
        threads: int = 1,
        classes: Classes = BY_VIEW,
    ) -> "Site":
        """Make a new site folder with fresh secrets; raises `ValueError` if there is one already."""
        if (folder / SITE_FILE).exists():
            raise ValueError(f"{folder / SITE_FILE} exists: its account and keys are not made anew")
        file = SiteFile(
            name=name, cohort=cohort, public_subjects=public_subjects, threads=threads, policy=policy, classes=classes
        )
        from evaluation.trust import SigningKey

        for new in (folder, folder / "secrets"):
            new.mkdir(parents=True, exist_ok=True, mode=0o700)
        for key in KEYS:
            if not (folder / "secrets" / key).exists():  # a creation that was killed goes on with the keys it made
                durable.write(folder / "secrets" / key, secrets.token_bytes(32))
        if not (folder / "secrets" / SIGNING).exists():
            SigningKey.create().write(folder / "secrets" / SIGNING)
        text = yaml.safe_dump(json.loads(json.dumps(asdict(file))), sort_keys=False, allow_unicode=True)
        durable.write(folder / SITE_FILE, text.encode())
        return cls(folder)

    @property
    def name(self) -> str:
        """The site's public name."""
        return self.file.name

    @property
    def policy(self) -> Policy:
        """What may run here."""
        return self.file.policy

    @cached_property
    def signing_key(self) -> "SigningKey":
        """The key that countersigns certificates."""
        from evaluation.trust import SigningKey

        return SigningKey.read(self.folder / "secrets" / SIGNING)

    @cached_property
    def ledger(self) -> "PrivacyLedger":
        """The account of this site's subjects, opened when first asked for; signed with the site's key."""
        from privacy.ledger import PrivacyLedger

        account = self.policy.account
        return PrivacyLedger(
            self.folder / LEDGER,
            epsilon_cap=self.policy.epsilon_cap,
            delta_cap=self.policy.delta_cap,
            terms=account.terms,
            limits=account.limits,
            key=self.signing_key,
            officer=account.officer_key,
            witness=self.witness,
        )

    @property
    def witness(self) -> Path | None:
        """The file outside this folder that keeps the newest head of the account."""
        return self.folder / self.policy.account.witness if self.policy.account.witness else None

    @cached_property
    def cohort(self) -> "Cohort":
        """The subjects, by this site's pseudonyms; an index, no pixels yet."""
        from cohorts.deidentify import Pseudonyms
        from cohorts.readers import READERS

        fields = {k: _tuples(v) for k, v in self.file.cohort.items() if k != "reader"}
        try:
            reader = READERS[self.file.cohort["reader"]](**fields)
        except TypeError as error:
            raise ValueError(f"{self.folder / SITE_FILE}: cohort: {error}") from error
        found: Cohort = reader.read(pseudonyms=Pseudonyms(self._secret(PSEUDONYM)))
        return found

    def frames(self, *splits: "Split", size: int) -> "Frames":
        """Return the frames of the subjects in `splits`, resized to `(size, size)`; read from the studies once."""
        return self._all_frames(size).select(self._in(splits))

    def clips(self, *splits: "Split", size: int, frames: int) -> "Clips":
        """Return the clips of the subjects in `splits`, of each up to `frames` frames of one beat; read once."""
        return self._all_clips(size, frames).select(self._in(splits))

    def groups(self, column: str, subjects: Sequence["SubjectKey"]) -> list[str]:
        """Return the group of each subject: a word that the policy lists for `column`, or "".

        A column that the reader's index does not have may be a label of studies; of several studies the first counts.
        """
        from cohorts.groups import group_of

        listed = self.policy.groups.get(column, ())
        if not listed:
            return [""] * len(subjects)
        known = [self.cohort.columns.get(subject, {}).get(column) for subject in subjects]
        labels = self._labels if None in known else {}
        cells = [
            labels.get(s, {}).get(column, "") if cell is None else cell for s, cell in zip(subjects, known, strict=True)
        ]
        return [group_of(cell, listed) for cell in cells]

    @cached_property
    def _labels(self) -> dict[str, dict[str, str]]:
        """The labels of each subject's studies, read once and kept beside the frames."""
        told = canonical([dict(self.file.cohort), list(self.cohort.subjects)])
        path = self.folder / "frames" / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.labels.json"
        if not path.exists():
            found = {s: [study.labels for study in self.cohort.of(s)] for s in self.cohort.subjects}
            words = {s: {k: str(v) for one in reversed(every) for k, v in one.items()} for s, every in found.items()}
            path.parent.mkdir(mode=0o700, exist_ok=True)
            durable.write(path, canonical(words).encode())
        labels: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
        return labels

    def _in(self, chosen: "Sequence[Split]") -> "list[SubjectKey]":
        """Return the subjects of these splits, in the order of the cohort."""
        from cohorts.split import splits

        divided = splits(self.cohort, key=self._secret(SPLIT))
        theirs = {subject for split in chosen for subject in divided[split]}
        return [s for s in self.cohort.subjects if s in theirs]

    def _all_frames(self, size: int) -> "Frames":
        from cohorts.frames import COLUMNS, Frames, gather

        classes = self.file.classes
        return self._once(
            Frames, COLUMNS, lambda: gather(self.cohort, size=size, classes=classes), size, asdict(classes)
        )

    def _all_clips(self, size: int, most: int) -> "Clips":
        from cohorts.clips import COLUMNS, Clips, gather

        return self._once(Clips, COLUMNS, lambda: gather(self.cohort, size=size, frames=most), size, {"clips": most})

    def _once(
        self,
        kind: Callable[..., T],
        columns: Sequence[str],
        gathered: Callable[[], T],
        size: int,
        how: Mapping[str, Any],
    ) -> T:
        """Return frames or clips of all subjects: from the cache, or read from the studies and kept there."""
        from learning import arrays

        told = canonical([dict(self.file.cohort), list(self.cohort.subjects), size, how])
        path = self.folder / "frames" / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.safetensors"
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            found = gathered()
            arrays.write(path, {name: getattr(found, name) for name in columns})
        return kind(**arrays.read(path), subjects=self.cohort.subjects)

    def secret(self) -> bytes:
        """Return what nobody outside this site can foresee, for lots that must fall the same way twice."""
        return hashlib.sha256(b"lots\0" + self._secret(SPLIT)).digest()

    def _secret(self, name: str) -> bytes:
        return (self.folder / "secrets" / name).read_bytes()


def find(node_config: Mapping[str, Any]) -> Site:
    """Return the site that the operator of this node named, never one that a message names.

    A node is told `site = "FOLDER"`; virtual nodes of a simulation share the folder of folders in `PERICARD_SITES`, and
    node k of it takes the k-th site by name.
    """
    if isinstance(folder := node_config.get("site"), str):
        return _open(Path(folder))
    among, at = os.environ.get("PERICARD_SITES"), node_config.get("partition-id")
    if among is None or not isinstance(at, int):
        raise ValueError("this node has no site: start it with --node-config 'site=\"FOLDER\"'")
    folders = sorted(path.parent for path in Path(among).glob(f"*/{SITE_FILE}"))
    if not 0 <= at < len(folders):
        raise ValueError(f"partition-id={at} lies outside the {len(folders)} sites of {among}")
    return _open(folders[at])


def _open(folder: Path) -> Site:
    return _opened(folder.resolve(), (folder / SITE_FILE).stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _opened(folder: Path, changed: int) -> Site:  # `changed` makes an edited site.yaml a new site
    return Site(folder)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
