"""The part of the report for a researcher: what it looks like, what it is good for and for whom least, how to load it."""

RESEARCHER = """
<section class="reader" id="researcher"><span class="for">For a researcher</span>
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
<tr><td>{{ row.task | words }}, {{ row.metric | words }}{% if row.trivial is not none %}<small>without looking at a picture: {{ row.trivial | score }}</small>{% endif %}</td><td>{{ row.arm | arm }}</td><td class="number">{{ row.estimate | score }}</td><td class="number">{% if row.ci is not none %}{{ row.ci[0] | score }} to {{ row.ci[1] | score }}{% else %}–{% endif %}</td><td class="number">{{ row.n_patients }}</td><td class="number">{{ row.n_seeds }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if parity %}
<h3>As good as real studies?</h3>
<div class="scroll"><table>
<thead><tr><th>Task and metric</th><th>Trained on</th><th class="number">Difference to real</th><th class="number">Margin</th><th class="number">p, Holm</th><th>Not worse</th><th>Equivalent</th></tr></thead>
<tbody>
{% for row in parity %}
<tr><td>{{ row.task | words }}, {{ row.metric | words }}</td><td>{{ row.arm | arm }}</td><td class="number">{{ row.difference | score }}<small>{% if row.difference_ci %}{{ row.difference_ci[0] | score }} to {{ row.difference_ci[1] | score }}{% endif %}</small></td><td class="number">{{ row.margin | number }}</td><td class="number">{{ row.p_holm | number }}</td><td>{% if row.verdict %}<span class="chip {{ row.verdict }}">{{ SHOWN[row.verdict] }}</span>{% else %}–{% endif %}</td><td>{% if row.equivalent %}<span class="chip {{ row.equivalent }}">{{ SHOWN[row.equivalent] }}</span>{% else %}–{% endif %}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">Differences are paired by patient, and oriented so that more is better. Not worse: the whole interval lies above minus the margin, which the policy fixed beforehand. That no difference was seen shows neither.</p>
{% endif %}
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
<tr><td>{{ row.task | words }}, {{ row.metric | words }}, by {{ row.by | words }}<small>{% for g in row.groups %}{{ g.group }} {{ g.estimate | score }}{{ '' if loop.last else ' · ' }}{% endfor %}</small></td><td>{{ row.arm | arm }}</td><td>{{ row.worst }}</td><td class="number">{{ row.at_worst.estimate | score }}<small>{{ row.at_worst.ci[0] | score }} to {{ row.at_worst.ci[1] | score }}</small></td><td class="number">{{ row.at_worst.n_patients }}</td><td class="number">{{ row.gap | score }}<small>{{ row.gap_ci[0] | score }} to {{ row.gap_ci[1] | score }}</small>{% if row.gap_change is not none %}<small>{{ '%+.3f' | format(row.gap_change) }} against real</small>{% endif %}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">Groups of fewer than {{ FEWEST }} patients are not judged. The interval of a gap allows for all pairs that were looked at; one that reaches 0 shows no difference.</p></section>
{% endif %}

{% if p.fidelity %}
<h2>How near is it to real?</h2>
<div class="scroll"><table>
<thead><tr><th>Measure</th><th>Looked at by</th><th>Against</th><th class="number">Value</th><th class="number">Real against real</th><th class="number">n</th></tr></thead>
<tbody>
{% for f in p.fidelity %}
<tr><td>{{ f.metric | words }}{% if f.reason %}<small>{{ f.reason }}</small>{% endif %}</td><td>{{ f.encoder or '–' }}</td><td>{{ f.against }}{{ ' *' if f.reads_real }}</td><td class="number">{{ f.estimate | number }}<small>{% if f.ci %}{{ f.ci[0] | number }} to {{ f.ci[1] | number }}{% endif %}</small></td><td class="number">{{ f.beside | number }}<small>{% if f.beside_ci %}{{ f.beside_ci[0] | number }} to {{ f.beside_ci[1] | number }}{% endif %}</small></td><td class="number">{{ '{:,}'.format(f.n) }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">Real against real: the same between two halves of what it was held against, as good as it can be. None of these predicts usefulness, and none says anything about privacy.{% if p.fidelity | selectattr('reads_real') | list %} *: real studies were opened for it; no ε covers the number.{% endif %}</p>
{% endif %}

{% if not p.basis %}
<h2>How to load it</h2>
<p>Pictures and masks are plain PNG files, named in one table; nothing of ours is needed. First check that it is what was certified, and whole:</p>
<pre>pericard verify DIR --trust keys.json</pre>
<pre>import csv
from pathlib import Path

import numpy as np
from PIL import Image

release = Path("DIR/release")
with (release / "labels.csv").open(newline="") as table:
    rows = list(csv.DictReader(table))   # patient, view, phase, image, mask, …
row = rows[0]
picture = np.asarray(Image.open(release / row["image"]))   # (height, width), grey
mask = np.asarray(Image.open(release / row["mask"]))       # 0 background, 1 cavity, 2 myocardium, 3 atrium</pre>
<p>Split by <code>patient</code>, never by picture: pictures of one synthetic heart are alike. For loaders that you have already: <code>pericard export DIR --layout echonet-dynamic</code>, <code>camus</code>, <code>acdc</code>, <code>plain</code> or <code>dicom</code>.</p>
<p class="note">Labels: {{ p.release.labels | map('words') | join(', ') or 'none' }}. Licence: {{ p.release.license }}. Cite certificate <code>{{ p.id }}</code>.</p>
{% else %}
{% if not sheets and not films %}<p>No picture of the audited release is shown here.</p>{% endif %}
<p class="note">Labels: {{ p.release.labels | map('words') | join(', ') or 'none' }}. Licence: {{ p.release.license or 'not stated' }}.</p>
{% endif %}
</section>
"""
