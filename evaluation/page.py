"""The frame of the report, as code: so it rides in Flower's bundle, which takes no templates, and is digested.

```
page.py             head, verdict, facts; where to read on
page_style.py       how it looks on a screen, a phone and paper
page_officer.py     for a privacy officer: ε in words, what was tried, what is not covered, the rules
page_researcher.py  for a researcher: what it looks like, what it is good for, for whom least, how to load it
page_manager.py     for a data manager: what left the site, what was charged, where everything comes from
```
"""

from evaluation.page_manager import MANAGER
from evaluation.page_officer import OFFICER
from evaluation.page_researcher import RESEARCHER
from evaluation.page_style import STYLE

FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Pericard report {{ p.id }}: {{ p.verdict }}</title>
<style>{% include "style" %}</style>
</head>
<body>
{% if stays_at_site %}
<div class="site-only" role="note">This copy may show real studies. It must not leave the site.</div>
{% endif %}
<header>
<svg width="34" height="34" viewBox="0 0 34 34" role="img" aria-label="Pericard"><path d="M17 30C8 24.5 3.5 19 3.5 12.6 3.5 8 6.9 5 10.6 5c2.7 0 5 1.4 6.4 3.7C18.4 6.4 20.7 5 23.4 5c3.7 0 7.1 3 7.1 7.6C30.5 19 26 24.5 17 30z" fill="none" stroke="#0b6e7f" stroke-width="2"/><path d="M17 25.2c-5.600-3.700-8.700-7.400-8.700-11.900 0-2.200 1.500-3.600 3.200-3.600 2.200 0 3.900 1.700 5.500 4.300 1.600-2.600 3.300-4.300 5.500-4.300 1.700 0 3.200 1.400 3.200 3.600 0 4.500-3.100 8.200-8.700 11.900z" fill="#0b6e7f"/></svg>
<h1>Pericard<span>{{ 'Report of an audit' if p.basis else 'Report of a certified release' }}</span></h1>
<div class="where">Certificate <code>{{ p.id }}</code><br>issued {{ p.issued[:10] }}, expires {{ p.expires[:10] }}</div>
</header>

<section class="banner {{ p.verdict }}">
<strong>{{ p.verdict }}</strong>
<p>{{ verdict }}</p>
</section>
<dl class="facts">
{% if p.basis %}
<div><dt>Evidence</dt><dd>{{ p.basis.tier }}<small>of T0 to T5</small></dd></div>
<div><dt>Members looked for</dt><dd>{{ '{:,}'.format(p.audits | map(attribute='n_member') | max) if p.audits else '–' }}<small>patients it was made from</small></dd></div>
<div><dt>Audited</dt><dd>{{ '{:,}'.format(p.release.n_samples) }}<small>pictures or clips{{ ', ' if p.release.views }}{{ p.release.views | join(', ') }}</small></dd></div>
<div><dt>Smallest leak noticed</dt><dd>{% if least is not none %}{{ (100 * least) | number }} %<small>of members copied, with probability 0.8</small>{% else %}–<small>none with probability 0.8</small>{% endif %}</dd></div>
{% else %}
<div><dt>Lane</dt><dd>{{ p.release.lane }}<small>{{ 'ε covers the released files' if p.dp.release_covered else 'the files have no ε of their own' }}</small></dd></div>
<div><dt>Privacy of one patient</dt><dd>{% if p.dp.eps is not none %}ε = {{ p.dp.eps | number }}<small>δ = {{ p.dp.delta | power }}</small>{% else %}no ε<small>{% if p.dp.per_view[SERVER] is not none %}the generator’s is {{ p.dp.per_view[SERVER] | number }}{% else %}nothing was noised{% endif %}</small>{% endif %}</dd></div>
<div><dt>Released</dt><dd>{{ '{:,}'.format(p.release.n_samples) }}<small>synthetic samples{{ ', ' if p.release.views }}{{ p.release.views | join(', ') }}</small></dd></div>
<div><dt>Sites</dt><dd>{{ p.sites | length }}<small>about {{ '{:,}'.format(p.sites | sum(attribute='n_rounded')) }} patients together</small></dd></div>
{% endif %}
</dl>
<nav aria-label="Readers">
<a href="#officer">For a privacy officer<small>{{ 'what' if p.basis else 'ε in plain words, what' }} was tried, what is not covered</small></a>
<a href="#researcher">For a researcher<small>what it {{ 'looks like' if p.basis else 'is good for, for whom least' }}, how to load it</small></a>
<a href="#manager">For a data manager<small>{{ 'where the audit comes from' if p.basis else 'what left the sites, what was charged, provenance' }}</small></a>
</nav>
{% include "officer" %}
{% include "researcher" %}
{% include "manager" %}
<footer>This page is a drawing of <code>certificate.json</code>; where they differ, the signed file is right. <code>pericard verify DIR</code> checks the signatures and every file.</footer>
</body>
</html>
"""

PAGES = {"page": FRAME, "style": STYLE, "officer": OFFICER, "researcher": RESEARCHER, "manager": MANAGER}
