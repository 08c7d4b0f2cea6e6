"""The part of the report for a privacy officer: what it means, what was tried, what is not covered, the rules."""

OFFICER = """
<section class="reader" id="officer"><span class="for">For a privacy officer</span>
<h2>In plain words</h2>
{% for paragraph in plain %}
<p>{{ paragraph }}</p>
{% endfor %}

{% if not p.basis or p.dp.audited %}
<h2>What it cost in privacy</h2>
<div class="epsilon">
<div class="big">{% if p.dp.eps is not none %}ε = {{ p.dp.eps | number }}<small>per patient, at δ = {{ p.dp.delta | power }}</small>{% else %}no ε<small>for the released files</small>{% endif %}</div>
<div>
<p>The unit is one patient with all studies, clips and labels: worlds with and without that patient are compared.</p>
{% if p.dp.eps is none and p.dp.per_view[SERVER] is not none %}<p>The generator’s updates cost ε = {{ p.dp.per_view[SERVER] | number }} per patient at δ = {{ p.dp.delta | power }}. That says nothing about which of its samples were released.</p>{% endif %}
{% if aid %}<p>{{ 'About the generator’s training: ' if p.dp.eps is none }}{{ aid }}</p>{% endif %}
</div>
</div>
{% if sure is not none %}
<div class="scale" role="img" aria-label="From undecided, 50 %, to at most {{ (100 * sure) | round(1) }}&nbsp;% certain"><i></i><i style="width:{{ (100 * sure - 50) | round(2) }}%"></i><span style="left:0">certain: no</span><span style="left:50%;transform:translateX(-50%)">undecided</span><span style="right:0">certain: yes</span></div>
<p class="note">How far an undecided observer’s belief that one patient took part can be moved at most{{ ', by the generator’s training' if p.dp.eps is none }}.{% if sure > 0.96 %} By itself this bound promises little; the Gaussian line above is what noise of this kind really gives.{% endif %}</p>
{% endif %}
{% if proved is not none %}<p>Measured beside it: the attacks and canaries of this certificate prove that ε is at least {{ proved[0] | number }}; with so many of them, they could have proved {{ proved[1] | number }} at most.</p>{% endif %}
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

<h2>What was tried to break it</h2>
{% if audits %}
<p>{{ attempts }}</p>
<div class="scroll"><table class="attacks">
<thead><tr><th>Attack</th><th class="number">On</th><th class="number">Result</th><th class="number">p</th><th class="number">p, Holm</th><th>Planted copies</th><th>Outcome</th></tr></thead>
<tbody>
{% for line in audits %}
{% set a = line.audit %}
<tr><td>{{ a.name | words | opened }}{{ ', ' if a.of }}{{ a.of }}<small>{{ line.question }}</small></td><td class="number">{% if a.n_member %}{{ '{:,}'.format(a.n_member) }}{% if a.n_control %}<small>and {{ '{:,}'.format(a.n_control) }} others</small>{% endif %}{% else %}–{% endif %}</td>
<td class="number">{{ a.estimate | number }}<small>{% if a.ci is not none %}{{ a.ci[0] | number }} to {{ a.ci[1] | number }}{% endif %}{% if a.metric %} {{ a.metric | words }}{% endif %}</small></td>
<td class="number">{{ a.p | number }}</td><td class="number">{{ a.p_holm | number }}</td>
<td>{{ line.controls }}{% if a.smallest_leak is not none %}<small>notices {{ (100 * a.smallest_leak) | number }}&nbsp;% or more</small>{% endif %}</td>
<td><span class="chip {{ line.tone }}">{{ line.outcome }}</span></td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">On: so many members, and people it never saw. p: how easily chance alone would look like this; Holm: the same after allowing for everything that was tried, so that one lucky attack among many does not count. Planted copies: whether the attack finds copies that were put there on purpose, or its silence says nothing. An attack that failed says that this attack failed.</p>
<p class="note">Regulators ask three questions (WP29, opinion 05/2014): {% for name, state in questions %}{{ name }} – {{ state }}{{ '.' if loop.last else '; ' }}{% endfor %}</p>
{% for line in audits %}
{% set a = line.audit %}
<details{{ ' open' if loop.first or line.tone == 'FAIL' }}><summary>{{ a.name | words | opened }}{{ ', ' if a.of }}{{ a.of }} <span>{{ line.outcome }}</span></summary>
{% if a.reason %}<p>{{ a.reason | opened }}{{ "" if a.reason[-1] == "." else "." }}</p>{% endif %}
{% if line.figure %}<figure>{{ line.figure | safe }}</figure>{% endif %}
<dl class="record">
<dt>Judged on</dt><dd>{% if a.n_member %}{{ a.n_member }} members{% else %}the release alone{% endif %}{% if a.n_control %} and {{ a.n_control }} controls, split by {{ a.split }}{% endif %}{% if a.n_attempts > 1 %}; these people were used for {{ a.n_attempts }} attempts{% endif %}</dd>
<dt>Estimate</dt><dd>{{ a.estimate | number }}{% if a.ci is not none %} ({{ a.ci[0] | number }} to {{ a.ci[1] | number }}){% endif %}{% if a.metric %} {{ a.metric | words }}{% endif %}</dd>
{% if a.auc is not none %}<dt>AUC</dt><dd>{{ a.auc | score }}{% if a.auc_ci %} ({{ a.auc_ci[0] | score }} to {{ a.auc_ci[1] | score }}){% endif %}; 0.5 is a coin</dd>{% endif %}
{% if a.tpr %}<dt>Members found</dt><dd>{% for at in a.tpr %}{{ (100 * at.tpr) | number }}&nbsp;% ({{ (100 * at.low) | number }} to {{ (100 * at.high) | number }}) while accusing {{ (100 * at.fpr) | number }}&nbsp;% of the others wrongly{{ '' if loop.last else '; ' }}{% endfor %}</dd>{% endif %}
{% for r in a.rates %}<dt>{{ RATES[r.of] if r.of in RATES else r.of | words | opened }}</dt><dd>{{ '{:,}'.format(r.successes) }} of {{ '{:,}'.format(r.attempts) }}: {{ (100 * r.rate) | number }}&nbsp;% ({{ (100 * r.low) | number }} to {{ (100 * r.high) | number }})</dd>{% endfor %}
{% if a.eps_lb is not none %}<dt>Proves</dt><dd>that ε is at least {{ a.eps_lb | number }}{% if a.eps_ceiling is not none %}; with so many patients it could have proved {{ a.eps_ceiling | number }} at most{% endif %}</dd>{% endif %}
<dt>Planted copies</dt><dd>{% if a.positive_control is none %}none were planted, so finding nothing says nothing{% elif a.positive_control %}found, as they must be{% else %}<strong>missed</strong>, so finding nothing says nothing{% endif %}</dd>
{% if line.powers %}<dt>Power</dt><dd>{% for share, power in line.powers %}{{ 'had' if loop.first else 'and had' }} {{ share }} of the members been copied, it would have noticed with probability {{ power | number }}{{ '' if loop.last else ', ' }}{% endfor %}</dd>{% endif %}
{% if a.negative_control is not none %}<dt>Unrelated release</dt><dd>{{ 'left alone, as it must be' if a.negative_control else 'accused, so finding something says nothing' }}</dd>{% endif %}
{% if a.blind_baseline is not none %}<dt>Without the release</dt><dd>{{ 'members and controls look alike, as they must' if a.blind_baseline else 'members and controls can be told apart: the split is not fair' }}</dd>{% endif %}
</dl></details>
{% endfor %}
{% else %}
<p>No attack was run.</p>
{% endif %}

{% if not p.basis %}
<h2>How it was screened</h2>
<p>Before release, candidates were screened: {{ p.filter.mode | words }}{% if p.filter.acceptance_rounded is not none %}; about {{ (100 * p.filter.acceptance_rounded) | round | int }}&nbsp;% were kept{% endif %}{% if p.filter.tau is not none %}; threshold {{ p.filter.tau | number }}{% if p.filter.tau_method %}, {{ p.filter.tau_method | words }}{% endif %}{% if p.filter.n_calib %}, {{ p.filter.n_calib }} calibration patients{% endif %}{% endif %}.{% if p.filter.eps is not none %} The screening itself is differentially private, ε = {{ p.filter.eps | number }}: it can make copies of one patient rarer by a factor of {{ screened | number }} at most, and no filter of that ε can do better.{% endif %}{% if p.filter.false_rejection is not none %} Of people it never saw it refuses {{ (100 * p.filter.false_rejection) | number }}&nbsp;%{{ ', more than half: its measure of likeness is not good enough, and it vouches for nothing' if p.filter.false_rejection > 0.5 }}.{% endif %}</p>
{% if p.filter.auc is not none %}<p>Its measure of likeness tells a patient from others with an AUC of {{ p.filter.auc | score }}{% if p.filter.tpr_at_1e_3 is not none %}, and recognises {{ (100 * p.filter.tpr_at_1e_3) | number }}&nbsp;% where one in a thousand strangers is mistaken{% endif %}.</p>{% endif %}
{% if p.filter.pairs %}
<div class="scroll"><table>
<thead><tr><th>Pairs of one patient</th><th class="number">Patients</th><th class="number">AUC</th><th class="number">Equal error</th><th class="number">at 1 in 100</th><th class="number">at 1 in 1,000</th><th class="number">nearest is own</th></tr></thead>
<tbody>{% for r in p.filter.pairs %}<tr><td>{{ r.kind | words }}</td><td class="number">{{ r.n_same }}</td><td class="number">{{ r.auc | score }}<small>{% if r.auc_ci %}{{ r.auc_ci[0] | score }} to {{ r.auc_ci[1] | score }}{% endif %}</small></td><td class="number">{{ r.eer | score }}</td><td class="number">{{ r.tpr_at_1e_2 | score }}</td><td class="number">{{ r.tpr_at_1e_3 | score }}</td><td class="number">{{ r.rank_1 | score }}</td></tr>{% endfor %}</tbody></table></div>
{% endif %}
{% if planted.rows %}
<h3>Copies that were planted</h3>
<p>At the sites, altered copies of real patients were hidden among the candidates; none of them left. This is how many the filter caught.</p>
<div class="scroll"><table>
<thead><tr><th>Altered by</th>{% for level in planted.levels %}<th style="text-align:center">level {{ level }}</th>{% endfor %}</tr></thead>
<tbody>{% for family, cells in planted.rows %}<tr><td>{{ family | words }}</td>{% for c in cells %}{% if c %}<td class="caught" style="background:rgb({{ c.tint | join(',') }})">{{ (100 * c.share) | round | int }}&nbsp;%<small>at least {{ (100 * c.lcb95) | round(1, 'floor') | number }}&nbsp;%</small></td>{% else %}<td class="caught">–</td>{% endif %}{% endfor %}</tr>{% endfor %}</tbody></table></div>
<p class="note">Level 1 hardly alters a picture, level 5 nearly beyond recognition: missing those is expected. “At least”: lower 95 % bound, on {{ planted.n }} patients.</p>
{% endif %}
{% if p.filter.gate %}<p>Noised counts (ε = {{ p.filter.gate.eps | number }}): some candidate resembles {{ p.filter.gate.members | number }} of {{ p.filter.gate.n_member }} members{% if p.filter.gate.controls is not none %} and {{ p.filter.gate.controls | number }} of {{ p.filter.gate.n_control }} people the generator never saw{% endif %}. Noise can make a count negative.</p>{% endif %}
{% if p.filter.decoys %}<p>Sites were tested with made-up patients: {% for d in p.filter.decoys %}{{ d.site }} caught {{ d.caught }} of {{ d.n }} and refused {{ d.refused }} of {{ d.probes }} that resemble nobody{{ '' if d.honest else ' – it does not screen as it should' }}{{ '.' if loop.last else '; ' }}{% endfor %}</p>{% endif %}
{% if p.filter.refused %}<p class="note">Refused: {% for r in p.filter.refused %}{{ (100 * r.refused / r.n) | round | int if r.n else '–' }}&nbsp;% of {{ r.by | words }} {{ r.group }}{{ '' if loop.last else ', ' }}{% endfor %}.</p>{% endif %}
{% endif %}

<h2>The rules and what was found</h2>
<p class="note">The policy was fixed before anything was measured and is signed to the letter. A rule passes only if the end of the interval that speaks against it still meets the bound; missing evidence is never a pass.</p>
<div class="scroll"><table>
<thead><tr><th>Rule</th><th class="number">Found</th><th class="number">Patients</th><th class="number">Held against</th><th>Verdict</th></tr></thead>
<tbody>
{% for line in rules %}
<tr><td>{{ line.rule.says or line.rule.id }}<small>{{ line.rule.id }}{{ '' if line.outcome.required else ' · not required in this lane' }}{% if line.outcome.verdict == 'INCONCLUSIVE' %} · {{ line.outcome.reason }}{% if not line.estimate and line.how %}: {{ line.how }}{% endif %}{% endif %}</small></td>
<td class="number">{{ (line.estimate.value if line.estimate else none) | number }}<small>{{ line.estimate | interval }}</small></td>
<td class="number">{{ line.estimate.n if line.estimate and line.estimate.n else '–' }}</td>
<td class="number">{{ line.held_against }}<small>{{ line.side }}</small></td>
<td><span class="chip {{ line.outcome.verdict }}">{{ line.outcome.verdict }}</span></td></tr>
{% endfor %}
</tbody></table></div>
</section>
"""
