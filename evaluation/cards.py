"""Cards of an exported release, made of its certificate and of nothing else: for machines, for a hub, for readers.

```
croissant.json   Croissant 1.1 with its responsible-AI terms (JSON-LD; Akhtar et al. 2024, doi:10.1145/3650203.3663326)
README.md        a dataset card with YAML in front, as Hugging Face reads it
DATASHEET.md     the questions of a datasheet (Gebru et al. 2021, doi:10.1145/3458723), answered as far as is known
```

What is not known is said to be not known. A release without a certificate gets cards that say so first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation import words
from evaluation.predicate import Utility
from evaluation.statement import Predicate
from synthesis.cards import CONTEXT, FILE_SETS, described, tables_of
from synthesis.export import Exported

CROISSANT = "croissant.json"
CROISSANT_VERSION = "http://mlcommons.org/croissant/1.1"
RAI_VERSION = "http://mlcommons.org/croissant/RAI/1.0"
SPDX = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "Apache-2.0", "MIT")
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
DRAWN = (
    "No picture is of a patient: each was drawn by a generator, as were the outlines and the numbers beside it; nobody "
    "outlined or measured."
)
CALLED = "The release calls its pictures synthetic; nobody vouches for that here."

README = """---
{{ front }}
---

# Synthetic images, layout {{ layout }}

{% if p is none %}
**This release came without a certificate.** Nothing is known here of how it was made.
{% else %}
Verdict of its certificate: **{{ p.verdict }}** (lane {{ p.release.lane }}, issued {{ p.issued[:10] }}, expires
{{ p.expires[:10] }}).
{% endif %}

{{ nature }} Written from the release `{{ root[:16] }}…`, {{ clips }} clips, by `pericard export`. Not for diagnosis.

## Files

{% for path in tables %}
- `{{ path }}`
{% endfor %}
{% for _, pattern, kind in sets %}
- `{{ pattern }}` ({{ kind }})
{% endfor %}
- `croissant.json`: the same for machines; `DATASHEET.md`: more for readers; `manifest.json`: every file by SHA-256

{% if notes %}
What this layout cannot hold, or the release does not know:

{% for note in notes %}
- {{ note }}
{% endfor %}

{% endif %}
## Uses

{% if p is none %}
Not stated.
{% else %}
For: {{ p.release.intended_use }}

Not for: {{ p.release.forbidden_use }}
{% endif %}

## Personal and Sensitive Information

{{ privacy }}

## Considerations for Using the Data

{% if p is none %}
No limits are stated. That is not the same as no limits.
{% else %}
{% for limit in p.limits %}
- {{ limit }}
{% endfor %}
{% endif %}

{% if utility %}
What models trained on it, and on what it is compared with, reach on the sites' own test patients:

| task | trained on | metric | estimate | 95 % interval | patients |
| --- | --- | --- | --- | --- | --- |
{% for row in utility %}
| {{ row | join(" | ") }} |
{% endfor %}

{% endif %}
## Licensing Information

{{ licence or "No licence is stated. Without one, nobody but the makers may use the data: ask them." }}
"""

DATASHEET = """# Datasheet of {{ name }}

After Gebru et al. 2021, doi:10.1145/3458723. Answers are those of the certificate; what it does not say is not known.

## Motivation

{% if p is none %}
Not known.
{% else %}
{{ p.release.intended_use }}
Signed by {{ signers | join(", ") }}; more than these names is not known here.
{% endif %}

## Composition

- Instances: {{ clips }} clips were released; the tables say what is in this copy.
{% if p is not none %}
- Frames in the release: {{ p.release.n_samples }}.
- Views: {{ p.release.views | join(", ") }}.
- Labels: {{ p.release.labels | join(", ") }}.
{% endif %}
{% for note in notes %}
- {{ note }}
{% endfor %}
- People: {{ nature }} {{ privacy }}

## Collection

{% if p is none %}
Not known.
{% else %}
Sampled from a generator, trained by {{ p.sites | length }} sites under one protocol; no study left a site.

| site | subjects, rounded |
| --- | --- |
{% for site in p.sites %}
| {{ site.pseudonym }} | {{ site.n_rounded }} |
{% endfor %}

{% for given in p.dp.public_pretraining %}
- The generator began from {{ given.dataset }} ({{ given.license }}); no ε covers who is in it.
{% endfor %}
- Filter: {{ p.filter.mode }}.
{% endif %}

## Preprocessing and labels

Written into the layout {{ layout }} from the release with Merkle root `{{ root }}`. {{ nature }}

## Uses

{% if p is none %}
Not stated.
{% else %}
For: {{ p.release.intended_use }}

Not for: {{ p.release.forbidden_use }}

Limits:

{% for limit in p.limits %}
- {{ limit }}
{% endfor %}
{% endif %}

## Distribution

Licence: {{ licence or "none is stated" }}.

## Maintenance

{% if p is none %}
Nobody is named.
{% else %}
- Certificate: {{ p.id }}, verdict {{ p.verdict }}, expires {{ p.expires[:10] }}
- Privacy contact: {{ p.contacts.dpo or "not stated" }}
- Security contact: {{ p.contacts.security or "not stated" }}
- Withdrawals: {{ p.revocation_url or "nowhere listed" }}
{% endif %}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Where an export comes from.

    Attributes:
        root: Merkle root of the release, hexadecimal.
        predicate: what its verified certificate claims; `None` where it came without one.
        signers: whose signatures fitted.
        licence: as the certificate or the exporter states it; `None` where nobody does.
    """

    root: str
    predicate: Predicate | None = None
    signers: tuple[str, ...] = ()
    licence: str | None = None

    def __post_init__(self) -> None:
        if self.licence is not None and not (self.licence.strip() and self.licence.isprintable()):
            raise ValueError(f"licence={self.licence!r} must be a printable line")


def write(folder: Path, origins: Origins, *, layout: str, exported: Exported) -> None:
    """Write the three cards into `folder`, which holds the layout already."""
    facts = _facts(origins, layout, exported)
    for name, template in (("README.md", README), ("DATASHEET.md", DATASHEET)):
        (folder / name).write_text(_filled(template, facts), "utf-8")
    document = _croissant(folder, origins, facts, layout, exported)
    (folder / CROISSANT).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def privacy(predicate: Predicate | None) -> str:
    """Return the sentences on what the data tell about patients, as far as the certificate bounds it."""
    if predicate is None:
        return (
            "No certificate came with this release: nothing is known here of how it was made or of what it tells about "
            "any patient. Handle it as if it did tell."
        )
    dp = predicate.dp
    if dp.eps is not None and dp.delta is not None:
        return (
            "Every step of the release that opened a study is differentially private: "
            f"ε = {dp.eps:.3g}, δ = {words.power(dp.delta)} per {predicate.privacy_unit}. "
            f"{words.reading_aid(dp.eps, dp.delta)}"
        )
    generator = "" if dp.generator_eps is None else f" The generator's own training has ε = {dp.generator_eps:.3g}."
    return f"No ε covers this release; what was tried against it is in the certificate.{generator}"


def _facts(origins: Origins, layout: str, exported: Exported) -> dict[str, Any]:
    p = origins.predicate
    return {
        "p": p,
        "name": f"pericard-{layout}-{origins.root[:12]}",
        "layout": layout,
        "root": origins.root,
        "signers": origins.signers,
        "licence": origins.licence,
        "clips": exported.clips,
        "notes": exported.notes,
        "nature": DRAWN if p else CALLED,
        "privacy": privacy(p),
        "utility": [_line(u) for u in p.utility if u.estimate is not None] if p else [],
        "front": _front(origins, layout, exported),
        "sets": FILE_SETS[layout],
        "tables": [entry.path for entry in tables_of(exported.manifest)],
    }


def _views(p: Predicate | None) -> list[str]:
    return list(p.release.views) if p else []


def _line(utility: Utility) -> tuple[str, ...]:
    low, high = utility.ci or (None, None)
    return (
        utility.task.replace("_", " "),
        utility.arm.replace("_", " "),
        utility.metric.replace("_", " "),
        f"{utility.estimate:.3f}",
        "" if low is None else f"{low:.3f} to {high:.3f}",
        str(utility.n_patients),
    )


def _front(origins: Origins, layout: str, exported: Exported) -> str:
    import yaml

    licence = origins.licence
    card: dict[str, Any] = {"pretty_name": f"Synthetic images in the layout {layout}"}
    if licence is None:
        card["license"] = "unknown"
    elif licence in SPDX:
        card["license"] = licence.lower()
    else:
        card |= {"license": "other", "license_name": licence}
    card |= {
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "size_categories": [next((word for bound, word in SIZES if exported.clips < bound), "n>1M")],
        "task_categories": ["image-segmentation", "image-classification"],
        "tags": ["medical", "synthetic", "croissant", *_views(origins.predicate)],
    }
    if tables := tables_of(exported.manifest):
        card["configs"] = [{"config_name": Path(t.path).stem, "data_files": t.path} for t in tables]
    return str(yaml.safe_dump(card, sort_keys=False, allow_unicode=True)).strip()


def _filled(template: str, facts: Mapping[str, Any]) -> str:
    import jinja2

    pages = jinja2.Environment(  # noqa: S701 - Markdown, and every value is signed or typed by whoever exports
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    pages.filters["power"] = words.power
    return pages.from_string(template).render(**facts)


def _croissant(
    folder: Path, origins: Origins, facts: Mapping[str, Any], layout: str, exported: Exported
) -> dict[str, Any]:
    p = origins.predicate
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": facts["name"],
        "description": f"Synthetic images in the layout {layout}. {facts['nature']} {facts['privacy']}",
        "conformsTo": [CROISSANT_VERSION, RAI_VERSION],
        "url": f"urn:pericard:release:{origins.root}",
        "version": "1.0.0",
        "keywords": ["synthetic data", "medical images", *_views(p)],
        "isLiveDataset": False,
    }
    if origins.licence is not None:
        known = origins.licence in SPDX
        document["license"] = f"https://spdx.org/licenses/{origins.licence}.html" if known else origins.licence
    document |= {"prov:wasDerivedFrom": _derived(origins)} | _responsible(p, facts)
    if p is not None:
        document["datePublished"] = p.issued[:10]
        document["creator"] = [{"@type": "Organization", "name": s.name} for s in p.signed_by]
        document["usageInfo"] = {
            "@type": "CreativeWork",
            "description": f"For: {p.release.intended_use} Not for: {p.release.forbidden_use}",
        }
    document |= described(folder, exported.manifest, layout=layout)
    return document


def _derived(origins: Origins) -> list[dict[str, str]]:
    release = {"@id": f"urn:pericard:release:{origins.root}", "prov:label": "The release, by its Merkle root."}
    if origins.predicate is None:
        return [release]
    p = origins.predicate
    return [
        release,
        {"@id": f"urn:pericard:certificate:{p.id}", "prov:label": f"Its certificate, verdict {p.verdict}."},
        *(
            {"@id": f"urn:pericard:pretraining:{k}", "prov:label": f"{d.dataset}, {d.license}; covered by no ε."}
            for k, d in enumerate(p.dp.public_pretraining, 1)
        ),
    ]


def _responsible(p: Predicate | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "rai:personalSensitiveInformation": [facts["privacy"]],
        "rai:dataLimitations": [*(p.limits if p else ("Nothing is certified.",)), *facts["notes"]],
        "rai:dataPreprocessingProtocol": [f"Written from the release into the layout {facts['layout']}."],
        "rai:machineAnnotationTools": [facts["nature"]],
    }
    if p is None:
        return said
    return said | {
        "rai:dataCollection": (
            f"Sampled from a generator trained by {len(p.sites)} sites without a study leaving them; "
            f"lane {p.release.lane}, verdict {p.verdict}."
        ),
        "rai:dataCollectionType": ["Others"],
        "rai:dataUseCases": [p.release.intended_use, f"Not for: {p.release.forbidden_use}"],
        "rai:dataReleaseMaintenancePlan": f"The certificate expires {p.expires[:10]}; ask again then.",
    }
