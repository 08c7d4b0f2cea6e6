"""The part of the report for a data manager: what left the sites, what was charged, where everything comes from."""

MANAGER = """
<section class="reader" id="manager"><span class="for">For a data manager</span>
{% if not p.basis or p.left or p.dp.mechanisms %}
<h2>What left the sites</h2>
{% if p.left %}
<p>No picture and no study left a site. What did: answers of each kind, how many, and how much they weigh together.</p>
<div class="scroll"><table>
<thead><tr><th>Kind of answer</th>{% for site in left.sites %}<th class="number">{{ site }}</th>{% endfor %}<th>Charged</th></tr></thead>
<tbody>
{% for kind, charged, cells in left.rows %}
<tr><td>{{ kind | words }}</td>{% for cell in cells %}<td class="number">{% if cell %}{{ '{:,}'.format(cell.messages) }}<small>{{ cell.bytes | bytes }}</small>{% else %}–{% endif %}</td>{% endfor %}<td>{{ 'to the ledger' if charged else 'no' }}</td></tr>
{% endfor %}
<tr><td><strong>Together</strong></td>{% for total in left.totals %}<td class="number"><strong>{{ total | bytes }}</strong></td>{% endfor %}<td></td></tr>
</tbody></table></div>
<p class="note">Not charged: the answer reads no patient who trains, or stands under “not covered” or in the limits.</p>
{% else %}
<p>This certificate does not count messages and bytes, so it cannot say how much left each site. What it does say: {% if p.dp.charged_steps %}only the steps below read patients for what became public, and each was charged before it ran.{% else %}nothing was charged to any ledger.{% endif %} Your own site’s outbox holds every answer it gave, byte for byte.</p>
{% endif %}

<h2>What was charged</h2>
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
<tr><td>{{ a.training | words }}</td><td>{{ a.site }}</td><td class="number">{{ a.eps_claimed | number }}</td><td class="number">{{ a.eps_lb | number }}</td><td class="number">{{ a.eps_lb_pure | number }}</td><td class="number">{{ a.eps_ceiling | number }}</td><td class="number">{{ (100 * a.right / a.guessed) | round(1) }}&nbsp;%</td><td class="number">{{ (100 * a.halved_noise_caught) | round | int }}&nbsp;%</td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">claimed: ε of this training alone · proved: the least ε that fits the guesses, if the noise has the shape of a Gaussian; any shape: whatever it is · ceiling: had all guesses been right · right: share of the {{ p.dp.audited[0].guessed }} guesses about {{ p.dp.audited[0].canaries }} coins · power: how often this check notices that half of the noise is missing. A proof above its claim means that the privacy machinery is broken; one below it says as much as its power is worth.</p>{% endif %}
{% if p.dp.unheard %}<p>Nothing was heard of the canaries of {% for training, site in p.dp.unheard %}{{ training | words }} at {{ site }}{{ '' if loop.last else ', ' }}{% endfor %}: what they would have shown is not known.</p>{% endif %}
{% endif %}

<h2>Where it comes from</h2>
{% if p.sites %}
<div class="scroll"><table>
<thead><tr><th>Site</th><th class="number">Patients, rounded</th><th class="number">ε spent in its life</th><th>Ledger head</th></tr></thead>
<tbody>
{% for site in p.sites %}
<tr><td>{{ site.pseudonym }}</td><td class="number">{{ site.n_rounded }}</td><td class="number">{{ site.eps_spent_lifetime | number }}</td><td><code>{{ site.ledger_head }}</code></td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">Your own line must agree with <code>pericard site ledger FOLDER --verify</code>; your machine refused to sign if it did not.</p>
{% endif %}
<dl class="record">
{% for name, value in (('Code', p.repro.code_digest), ('Commit', p.repro.code_commit), ('Experiment', p.repro.config_digest), ('Model', p.repro.model_digest), ('Lock file', p.repro.lockfile_digest), ('Container', p.repro.container_digest), ('Policy', p.policy.digest), ('Replaces', p.supersedes)) %}
{% if value %}<dt>{{ name }}</dt><dd><code>{{ value }}</code></dd>{% endif %}
{% endfor %}
<dt>Seeds</dt><dd>{% for name, seed in p.repro.seeds | dictsort %}{{ name | words }} {{ seed }}{{ '' if loop.last else ', ' }}{% else %}–{% endfor %} <span class="muted">(none of them makes noise)</span></dd>
<dt>Versions</dt><dd>{% for name, version in p.repro.versions | dictsort %}{{ name }} {{ version }}{{ '' if loop.last else ', ' }}{% else %}–{% endfor %}</dd>
<dt>Machine</dt><dd>{% for name, value in p.repro.hardware | dictsort %}{{ name | words }}: {{ value }}{{ '' if loop.last else ', ' }}{% else %}–{% endfor %}</dd>
<dt>Same again</dt><dd>{{ p.repro.determinism_level }}<br><code>{{ p.repro.replay_command }}</code></dd>
<dt>Meant to sign</dt><dd>{% for signer in p.signed_by %}{{ signer.name }} ({{ signer.role }}){{ '' if loop.last else ', ' }}{% else %}–{% endfor %}</dd>
<dt>Withdrawals</dt><dd>{{ p.revocation_url or 'no address is given; ask for the list, and check with pericard verify --revocations' }}</dd>
{% if p.contacts.dpo %}<dt>Data protection</dt><dd>{{ p.contacts.dpo }}</dd>{% endif %}
{% if p.contacts.security %}<dt>Security</dt><dd>{{ p.contacts.security }}</dd>{% endif %}
</dl>
<details><summary>The policy, to the letter</summary>
<pre>{{ p.policy.text }}</pre></details>
</section>
"""
