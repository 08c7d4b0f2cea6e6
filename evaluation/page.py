"""The template of the report, as code: so it rides in Flower's bundle, which takes no templates, and is digested."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Pericard report {{ p.id }}: {{ p.verdict }}</title>
<style>
:root { --ink: #1d2733; --muted: #5d6875; --line: #dfe4ea; --wash: #f6f8fa; --accent: #0b6e7f;
  --PASS: #1b7a4b; --FAIL: #b3261e; --INCONCLUSIVE: #8f6400; }
* { box-sizing: border-box; }
html { color: var(--ink); background: #fff; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
body { max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.05rem; font-weight: 600; margin: 0; letter-spacing: .01em; }
h1 span { display: block; font-weight: 400; color: var(--muted); }
h2 { font-size: 1.25rem; font-weight: 650; margin: 3rem 0 .7rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; font-weight: 650; margin: 1.6rem 0 .4rem; }
p { margin: .5rem 0; max-width: 44rem; }
.muted, .note { color: var(--muted); }
.note { font-size: .87rem; }
header { display: flex; align-items: center; gap: .8rem; padding-bottom: 1.1rem; }
header svg { flex: none; }
header .where { margin-left: auto; text-align: right; color: var(--muted); font-size: .85rem; line-height: 1.4; }
.banner { border: 1px solid var(--line); border-left: 6px solid var(--tone); border-radius: 6px; padding: 1.2rem 1.4rem; background: var(--wash); }
.banner strong { display: block; color: var(--tone); font-size: 1.7rem; line-height: 1.2; letter-spacing: .01em; }
.banner p { margin: .35rem 0 0; }
.facts { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1rem; margin: 1.3rem 0 0; padding: 0; }
.facts div { border-top: 1px solid var(--line); padding-top: .5rem; }
.facts dt { color: var(--muted); font-size: .82rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.facts dd small { font-size: .8rem; font-weight: 400; color: var(--muted); display: block; }
.site-only { background: #5a1a16; color: #fff; padding: .6rem 1rem; border-radius: 6px; margin-bottom: 1.2rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--ink); padding: .3rem .7rem .3rem 0; vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); padding: .45rem .7rem .45rem 0; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
td small { display: block; color: var(--muted); font-size: .92em; line-height: 1.4; }
.chip { display: inline-block; font-size: .74rem; font-weight: 650; letter-spacing: .03em; color: var(--tone); border: 1px solid var(--tone); border-radius: 99px; padding: .02rem .55rem; white-space: nowrap; background: #fff; }
.PASS { --tone: var(--PASS); } .FAIL { --tone: var(--FAIL); } .INCONCLUSIVE { --tone: var(--INCONCLUSIVE); }
figure { margin: 1rem 0; break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
figure svg text { font-family: inherit !important; }
figure img { width: 100%; display: block; }
figcaption { color: var(--muted); font-size: .87rem; margin-bottom: .35rem; }
.swatch { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin: 0 .25em 0 .9em; vertical-align: -.05em; }
.epsilon { display: grid; grid-template-columns: auto 1fr; gap: 0 1.6rem; align-items: start; }
.epsilon .big { font-size: 2.6rem; font-weight: 650; line-height: 1.1; letter-spacing: -.02em; white-space: nowrap; }
.epsilon .big small { display: block; font-size: .85rem; font-weight: 400; color: var(--muted); letter-spacing: 0; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem; }
ul { margin: .4rem 0; padding-left: 1.1rem; max-width: 44rem; }
li { margin: .2rem 0; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .82em; }
code { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; line-height: 1.45; }
dl.record { display: grid; grid-template-columns: 11rem 1fr; gap: .25rem 1rem; font-size: .88rem; margin: .6rem 0; }
dl.record dt { color: var(--muted); } dl.record dd { margin: 0; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--muted); font-size: .85rem; }
@media (max-width: 40rem) { .facts { grid-template-columns: 1fr 1fr; } .two, .epsilon, dl.record { grid-template-columns: 1fr; } .scroll { overflow-x: auto; } }
@page { size: A4; margin: 16mm 15mm 18mm; }
@media print {
  html { font-size: 10.5pt; } body { padding: 0; max-width: none; }
  h2 { margin-top: 1.8rem; break-after: avoid; } h3 { break-after: avoid; }
  tr, .banner, .epsilon, .keep, .two { break-inside: avoid; } pre { font-size: 6.5pt; } thead { display: table-header-group; }
  .site-only { position: fixed; top: 0; right: 0; font-size: 8pt; padding: .2rem .5rem; }
}
</style>
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
<div><dt>Released</dt><dd>{{ '{:,}'.format(p.release.n_samples) }}<small>synthetic samples, {{ p.release.views | join(', ') }}</small></dd></div>
<div><dt>Sites</dt><dd>{{ p.sites | length }}<small>about {{ '{:,}'.format(p.sites | sum(attribute='n_rounded')) }} patients together</small></dd></div>
{% endif %}
</dl>

<h2>In plain words</h2>
{% for paragraph in plain %}
<p>{{ paragraph }}</p>
{% endfor %}

<h2>The rules and what was found</h2>
<p class="note">The policy was fixed before anything was measured and is signed to the letter. A rule passes only if the end of the interval that speaks against it still meets the bound; missing evidence is never a pass.</p>
<div class="scroll"><table>
<thead><tr><th>Rule</th><th class="number">Found</th><th class="number">Patients</th><th class="number">Held against</th><th>Verdict</th></tr></thead>
<tbody>
{% for line in rules %}
<tr><td>{{ line.rule.says or line.rule.id }}<small>{{ line.rule.id }}{{ '' if line.outcome.required else ' · not required in this lane' }}{% if line.outcome.verdict == 'INCONCLUSIVE' %} · {{ line.outcome.reason }}{% endif %}</small></td>
<td class="number">{{ (line.estimate.value if line.estimate else none) | number }}<small>{{ line.estimate | interval }}</small></td>
<td class="number">{{ line.estimate.n if line.estimate and line.estimate.n else '–' }}</td>
<td class="number">{{ line.held_against }}<small>{{ line.side }}</small></td>
<td><span class="chip {{ line.outcome.verdict }}">{{ line.outcome.verdict }}</span></td></tr>
{% endfor %}
</tbody></table></div>

{% if sheets or films %}
<h2>What it looks like</h2>
{% for caption, picture in sheets %}
<figure><figcaption>{{ caption }}{% if loop.first %}<span style="float:right">{% for name, colour in tints %}<span class="swatch" style="background:{{ colour }}"></span>{{ name }}{% endfor %}</span>{% endif %}</figcaption>
<img src="{{ picture }}" alt="{{ caption }}"></figure>
{% endfor %}
{% if films %}
<h3>How it moves</h3>
<p class="note">A row is one heart in one view over one beat, from end diastole on; each row below a caption shows another view or heart.</p>
{% for caption, picture in films %}
<figure><figcaption>{{ caption }}</figcaption>
<img src="{{ picture }}" alt="{{ caption }}, over one beat"></figure>
{% endfor %}
{% endif %}
{% if not stays_at_site %}
<p class="note">Studies of patients are not shown: this report may leave the sites.</p>
{% endif %}
{% endif %}

{% for o in p.release.obeyed %}
<p class="note">Asked for and found: {{ o.label }} from {{ o.low | number }} to {{ o.high | number }} in {{ '{:,}'.format(o.n) }} synthetic hearts, against what the masks that were released show ({{ o.measured }}): correlation {{ '%.3f' | format(o.correlation) }}, mean error {{ '%.1f' | format(o.error) }}, bias {{ '%+.1f' | format(o.bias) }}.</p>
{% endfor %}
{% if not p.basis or p.utility %}
<section class="keep">
<h2>Is it useful?</h2>
{% if utility %}
<p>Networks were trained on different studies and then judged on patients of the sites whom no network and no generator had seen. Bars are intervals over patients.</p>
<figure>{{ utility | safe }}</figure>
{% endif %}
</section>
{% if differences %}
<section class="keep"><h3>Compared, patient by patient</h3>
<figure>{{ differences | safe }}</figure></section>
{% endif %}
{% if heard %}
<h3>Who decided</h3>
<p>Each site has an expert of its own, and every decision says how much it rests on each. On average over the test patients of a site:</p>
<ul>{% for line in heard %}<li>{{ line }}</li>{% endfor %}</ul>
{% endif %}
{% if p.utility %}
<div class="scroll"><table>
<thead><tr><th>Task and metric</th><th>Trained on</th><th class="number">Score</th><th class="number">Interval</th><th class="number">Patients</th><th class="number">Seeds</th></tr></thead>
<tbody>
{% for row in p.utility %}
<tr><td>{{ row.task | words }}, {{ row.metric | words }}</td><td>{{ row.arm | arm }}</td><td class="number">{{ row.estimate | score }}</td><td class="number">{% if row.ci is not none %}{{ row.ci[0] | score }} to {{ row.ci[1] | score }}{% else %}–{% endif %}</td><td class="number">{{ row.n_patients }}</td><td class="number">{{ row.n_seeds }}</td></tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p>No task was scored.</p>
{% endif %}
{% endif %}
{% if p.fairness %}
<section class="keep"><h3>Whom it serves worst</h3>
<p>The same scores for groups of the same patients. A score that is good on average may hide a group for whom it is not.</p>
<div class="scroll"><table>
<thead><tr><th>Task, groups by</th><th>Trained on</th><th>Worst group</th><th class="number">Score</th><th class="number">Patients</th><th class="number">Below the best</th></tr></thead>
<tbody>
{% for row in p.fairness %}
<tr><td>{{ row.task | words }}, {{ row.metric | words }}, by {{ row.by | words }}<small>{% for g in row.groups %}{{ g.group }} {{ g.estimate | score }}{{ '' if loop.last else ' · ' }}{% endfor %}</small></td><td>{{ row.arm | arm }}</td><td>{{ row.worst }}</td><td class="number">{{ row.at_worst.estimate | score }}<small>{{ row.at_worst.ci[0] | score }} to {{ row.at_worst.ci[1] | score }}</small></td><td class="number">{{ row.at_worst.n_patients }}</td><td class="number">{{ row.gap | score }}<small>{{ row.gap_ci[0] | score }} to {{ row.gap_ci[1] | score }}</small></td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">Groups of fewer than {{ FEWEST }} patients are not judged. The interval of a gap allows for all pairs that were looked at; one that reaches 0 shows no difference.</p></section>
{% endif %}

<h2>What was tried to break it</h2>
{% for audit, rates, powers in audits %}
<h3>{{ (audit.name | words).capitalize() }}</h3>
{% if audit.reason %}<p>{{ audit.reason[:1] | upper }}{{ audit.reason[1:] }}{{ "" if audit.reason[-1] == "." else "." }}</p>{% endif %}
{% if rates %}<figure>{{ rates | safe }}</figure>{% endif %}
<dl class="record">
<dt>Judged on</dt><dd>{{ audit.n_member }} members and {{ audit.n_control }} controls, split by {{ audit.split }}</dd>
<dt>Estimate</dt><dd>{{ audit.estimate | number }}{% if audit.ci is not none %} ({{ audit.ci[0] | number }} to {{ audit.ci[1] | number }}){% endif %}</dd>
{% if audit.eps_lb is not none %}<dt>Proves</dt><dd>that ε is at least {{ audit.eps_lb | number }}{% if audit.eps_ceiling is not none %}; with so many patients it could have proved {{ audit.eps_ceiling | number }} at most{% endif %}</dd>{% endif %}
<dt>Planted copies</dt><dd>{% if audit.positive_control is none %}none were planted, so finding nothing says nothing{% elif audit.positive_control %}found, as they must be{% else %}<strong>missed</strong>, so finding nothing says nothing{% endif %}</dd>
{% if powers %}<dt>Power</dt><dd>{% for share, power in powers %}{{ 'had' if loop.first else 'and had' }} {{ share }} of the members been copied, it would have noticed with probability {{ power | number }}{{ '' if loop.last else ', ' }}{% endfor %}</dd>{% endif %}
{% if audit.negative_control is not none %}<dt>Unrelated release</dt><dd>{{ 'left alone, as it must be' if audit.negative_control else 'accused, so finding something says nothing' }}</dd>{% endif %}
{% if audit.blind_baseline is not none %}<dt>Without the release</dt><dd>{{ 'members and controls look alike, as they must' if audit.blind_baseline else 'members and controls can be told apart: the split is not fair' }}</dd>{% endif %}
</dl>
{% else %}
<p>No attack was run.</p>
{% endfor %}
<p class="note">An attack that finds nothing says something only if it finds copies that were planted on purpose. An attack that failed says that this attack failed.</p>
{% if not p.basis %}<p class="note">Before release, candidates were screened ({{ p.filter.mode | words }}{% if p.filter.acceptance_rounded is not none %}; about {{ (100 * p.filter.acceptance_rounded) | round | int }} % were kept{% endif %}{% if p.filter.tau is not none %}; threshold {{ p.filter.tau | number }}{% if p.filter.tau_method %}, {{ p.filter.tau_method | words }}{% endif %}{% if p.filter.n_calib %}, {{ p.filter.n_calib }} calibration patients{% endif %}{% endif %}).</p>{% endif %}

{% if not p.basis or p.dp.audited %}
<h2>What it cost in privacy</h2>
<div class="epsilon">
<div class="big">{% if p.dp.eps is not none %}ε = {{ p.dp.eps | number }}<small>per patient, at δ = {{ p.dp.delta | power }}</small>{% else %}no ε<small>for the released files</small>{% endif %}</div>
<div>
{% if p.dp.eps is none and p.dp.per_view[SERVER] is not none %}<p>The generator’s updates cost ε = {{ p.dp.per_view[SERVER] | number }} per patient at δ = {{ p.dp.delta | power }}. That says nothing about which of its samples were released.</p>{% endif %}
{% if aid %}<p>{{ 'About the generator’s training: ' if p.dp.eps is none }}{{ aid }}</p>{% endif %}
</div>
</div>
<div class="scroll"><table>
<thead><tr><th>Charged step</th><th>Who is drawn</th><th class="number">q</th><th class="number">σ</th><th class="number">C</th><th class="number">T</th><th class="number">frames</th><th class="number">ε alone</th></tr></thead>
<tbody>
{% for m in p.dp.mechanisms %}
<tr><td>{{ m.step | words }}</td><td>{{ m.sampler }}</td><td class="number">{{ m.q | number }}</td><td class="number">{{ m.sigma | number }}</td><td class="number">{{ m.C | number }}</td><td class="number">{{ m.T | number }}</td><td class="number">{{ m.k_clips | number }}</td><td class="number">{{ m.eps | number }}</td></tr>
{% else %}
<tr><td colspan="8">nothing was charged</td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">q: chance that a patient is drawn in a step · σ: noise over C, the bound on what one patient adds · T: steps · frames: of a drawn patient. Together by {{ p.dp.accountant }}; noise from {{ p.dp.noise_rng }}.</p>
{% if p.dp.audited %}<h3>Checked by canaries</h3>
<p>Made-up patients, thrown in by coins, rode along in every private training. From what they left behind the coins were guessed; good guesses would refute the ε that the training claims.</p>
<div class="scroll"><table>
<thead><tr><th>Training</th><th>Site</th><th class="number">claimed</th><th class="number">proved</th><th class="number">any shape</th><th class="number">ceiling</th><th class="number">right</th><th class="number">power</th></tr></thead>
<tbody>
{% for a in p.dp.audited %}
<tr><td>{{ a.training | words }}</td><td>{{ a.site }}</td><td class="number">{{ a.eps_claimed | number }}</td><td class="number">{{ a.eps_lb | number }}</td><td class="number">{{ a.eps_lb_pure | number }}</td><td class="number">{{ a.eps_ceiling | number }}</td><td class="number">{{ (100 * a.right / a.guessed) | round(1) }} %</td><td class="number">{{ (100 * a.halved_noise_caught) | round | int }} %</td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">claimed: ε of this training alone · proved: the least ε that fits the guesses, if the noise has the shape of a Gaussian; any shape: whatever it is · ceiling: had all guesses been right · right: share of the {{ p.dp.audited[0].guessed }} guesses about {{ p.dp.audited[0].canaries }} coins · power: how often this check notices that half of the noise is missing. A proof above its claim means that the privacy machinery is broken; one below it says as much as its power is worth.</p>{% endif %}
<div class="two">
<div><h3>Covered by ε</h3><ul>{% for step in p.dp.charged_steps %}<li>{{ step | words }}</li>{% else %}<li>nothing</li>{% endfor %}</ul></div>
<div><h3>Not covered</h3><ul>{% for step in p.dp.uncovered_steps %}<li>{{ step | words }}</li>{% else %}<li>{{ 'no step of this run that opened the sites’ studies' if p.dp.release_covered else 'the choice of the released files' }}</li>{% endfor %}{% for source in p.dp.public_pretraining %}<li>what the generator started from, which is public: {{ source.dataset }} ({{ source.license }})</li>{% endfor %}</ul></div>
</div>
{% if p.dp.eps_if_2_sites is not none or p.dp.eps_if_3_sites is not none or p.dp.eps_if_duplicate_id is not none %}
<h3>If somebody is in it twice</h3>
<p>{% if p.dp.eps_if_2_sites is not none %}A patient of two sites: ε = {{ p.dp.eps_if_2_sites | number }}. {% endif %}{% if p.dp.eps_if_3_sites is not none %}Of three: ε = {{ p.dp.eps_if_3_sites | number }}. {% endif %}{% if p.dp.eps_if_duplicate_id is not none %}Under two names at one site: ε = {{ p.dp.eps_if_duplicate_id | number }}.{% endif %}</p>
{% endif %}
<h3>Assumed</h3>
<ul><li>the unit is the patient with all studies; neighbours differ by one patient, {{ 'added or removed' if p.adjacency == 'add_remove' else p.adjacency | words }}</li>{% for line in p.dp.assumptions %}<li>{{ line }}</li>{% endfor %}</ul>

{% endif %}
<h2>Limits</h2>
<ul>{% for line in p.limits %}<li>{{ line }}</li>{% endfor %}</ul>

<h2>Where it comes from</h2>
{% if p.sites %}
<div class="scroll"><table>
<thead><tr><th>Site</th><th class="number">Patients, rounded</th><th class="number">ε spent in its life</th><th>Ledger head</th></tr></thead>
<tbody>
{% for site in p.sites %}
<tr><td>{{ site.pseudonym }}</td><td class="number">{{ site.n_rounded }}</td><td class="number">{{ site.eps_spent_lifetime | number }}</td><td><code>{{ site.ledger_head }}</code></td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
<dl class="record">
{% for name, value in (('Code', p.repro.code_digest), ('Commit', p.repro.code_commit), ('Experiment', p.repro.config_digest), ('Model', p.repro.model_digest), ('Lock file', p.repro.lockfile_digest), ('Container', p.repro.container_digest), ('Policy', p.policy.digest)) %}
{% if value %}<dt>{{ name }}</dt><dd><code>{{ value }}</code></dd>{% endif %}
{% endfor %}
<dt>Seeds</dt><dd>{% for name, seed in p.repro.seeds | dictsort %}{{ name | words }} {{ seed }}{{ '' if loop.last else ', ' }}{% else %}–{% endfor %} <span class="muted">(none of them makes noise)</span></dd>
<dt>Versions</dt><dd>{% for name, version in p.repro.versions | dictsort %}{{ name }} {{ version }}{{ '' if loop.last else ', ' }}{% else %}–{% endfor %}</dd>
<dt>Machine</dt><dd>{% for name, value in p.repro.hardware | dictsort %}{{ name | words }}: {{ value }}{{ '' if loop.last else ', ' }}{% else %}–{% endfor %}</dd>
<dt>Same again</dt><dd>{{ p.repro.determinism_level }}<br><code>{{ p.repro.replay_command }}</code></dd>
<dt>Meant to sign</dt><dd>{% for signer in p.signed_by %}{{ signer.name }} ({{ signer.role }}){{ '' if loop.last else ', ' }}{% else %}–{% endfor %}</dd>
{% if p.contacts.dpo %}<dt>Data protection</dt><dd>{{ p.contacts.dpo }}</dd>{% endif %}
{% if p.contacts.security %}<dt>Security</dt><dd>{{ p.contacts.security }}</dd>{% endif %}
</dl>
<h3>The policy, to the letter</h3>
<pre>{{ p.policy.text }}</pre>
<footer>This page is a drawing of <code>certificate.json</code>; where they differ, the signed file is right. <code>pericard verify DIR</code> checks the signatures and every file.</footer>
</body>
</html>
"""
