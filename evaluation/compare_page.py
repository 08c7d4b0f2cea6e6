"""The comparison of runs as one HTML page: a table, and for each task its picture of risk against utility."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluation import compare, words
from evaluation.compare import Run
from evaluation.figures import Task
from evaluation.page_style import STYLE
from evaluation.plots import STYLE as FIGURES
from evaluation.plots import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_TASKS = 4
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Pericard: {{ runs | length }} runs compared</title><style>{{ style | safe }} th.number { white-space: normal; } td small { white-space: nowrap; }</style></head>
<body>
<h1>Pericard<span>Risk against utility, {{ runs | length }} runs</span></h1>
<p>Each number is a run of the table below, in the colour of its verdict. To the left is more private, higher is more useful; a dash says what the sites’ own studies reach. Runs of nearly the same ε stand side by side.</p>
{% for title, figure in drawn %}
<section class="keep"><h2>{{ title }}</h2><figure>{{ figure | safe }}</figure></section>
{% else %}
<p>No run was judged by a task.</p>
{% endfor %}
<h2>The runs</h2>
<div class="scroll"><table>
<thead><tr><th class="number">No</th><th>Run</th><th class="number">ε</th><th class="number">ε proved</th><th class="number">least p</th>{% for task in tasks %}<th class="number">{{ task[0] | words }}<br>{{ task[1] | words }}</th>{% endfor %}<th>Verdict</th></tr></thead>
<tbody>
{% for run in runs %}
<tr><td class="number">{{ loop.index }}</td><td>{{ run.name }}<small>{{ run.predicate.release.lane }}, {{ run.predicate.issued[:10] }}</small>{% if not run.signed %}<small>its signatures were not found to fit</small>{% endif %}</td>
<td class="number">{{ run.epsilon | number }}{% if run.predicate.dp.eps is none and run.epsilon is not none %}<small>of the generator</small>{% endif %}</td>
<td class="number">{{ (run.proved[0] if run.proved else none) | number }}<small>{% if run.proved %}of {{ run.proved[1] | number }}{% endif %}</small></td><td class="number">{{ run.p | number }}</td>
{% for task in tasks %}<td class="number">{% if task in run.scores %}{{ run.scores[task].estimate | score }}<small>{{ run.scores[task].ci[0] | score }} to {{ run.scores[task].ci[1] | score }}</small>{% else %}–{% endif %}</td>{% endfor %}
<td><span class="chip {{ run.predicate.verdict }}">{{ run.predicate.verdict }}</span><small>attacks: {{ run.outcome }}</small></td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">ε: of the release, else of the generator’s training. ε proved: by attacks on the release, of what they could have proved. Least p: the smallest of all attacks, after Holm’s correction. Scores are of networks trained on the release, on each run’s own test patients: compare runs only where those are the same people. Files were not hashed here; <code>pericard verify</code> does that.</p>
{% for problem in problems %}<p class="note">Not read: {{ problem }}</p>{% endfor %}
</body></html>
"""


def draw(runs: Sequence[Run], problems: Sequence[str] = ()) -> str:
    """Return the comparison as HTML; the same certificates give the same bytes."""
    import jinja2

    runs = compare.ordered(runs)
    shown = compare.tasks(runs)[:SHOWN_TASKS]
    pages = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(number=words.number, score=words.score, words=words.spoken)
    return pages.from_string(PAGE).render(
        runs=runs,
        tasks=shown,
        problems=problems,
        style=STYLE,
        drawn=[
            (f"{words.opened(words.spoken(task[0]))}: {words.spoken(task[1])}", picture(runs, task, name=f"task-{i}"))
            for i, task in enumerate(shown)
        ],
    )


def picture(runs: Sequence[Run], task: Task, *, name: str) -> str:
    """Draw utility in one task against ε, and beside it against what attacks proved; runs go by their number."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    placed = [(i, run) for i, run in enumerate(runs, 1) if task in run.scores]
    with mpl.rc_context(FIGURES):  # type: ignore[arg-type]
        figure = Figure(figsize=(7.2, 3.1))
        left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.08})
        _points(left, placed, task, [run.epsilon for _, run in placed], none="no ε")
        proved = [run.proved for _, run in placed]
        _points(right, placed, task, [p[0] if p else None for p in proved], none="not tried")
        left.set_xlabel("ε that is claimed")
        left.tick_params(axis="y", labelsize=8, labelcolor="#5d6875", length=0)
        right.tick_params(axis="y", length=0)
        right.set_xlabel("ε that attacks on the release proved")
        left.set_ylabel(f"{words.spoken(task[1])}, trained on the release")
        figure.subplots_adjust(left=0.09, right=0.99, top=0.97, bottom=0.17)
        return svg(figure, name)


def _points(
    axes: "Axes", placed: Sequence[tuple[int, Run]], task: Task, at: Sequence[float | None], *, none: str
) -> None:
    known = [x for x in at if x is not None]
    end = 1.15 * max(known, default=1.0) or 1.0
    away = 1.25 * end
    places = _side_by_side([away if x is None else x for x in at], 0.042 * end)
    for (number, run), place in zip(placed, places, strict=True):
        score, real, colour = run.scores[task], run.real(task), compare.tone(run)
        value = score.estimate or 0.0
        ci = score.ci or (value, value)
        axes.plot([place, place], [ci[0], ci[1]], color=colour, linewidth=1.2, alpha=0.6, solid_capstyle="butt")
        axes.plot([place], [value], marker="o", markersize=9.5, color="white", markeredgecolor=colour)
        axes.annotate(str(number), (place, value), ha="center", va="center", fontsize=7, color=colour)
        if real is not None and real.estimate is not None:
            axes.plot([place], [real.estimate], marker="_", markersize=12, color="#1d2733")
    if len(known) < len(at):
        axes.axvline(1.08 * end, color="#dfe4ea", linewidth=0.8)
        axes.annotate(none, (away, 0.02), xycoords=("data", "axes fraction"), ha="center", fontsize=8, color="#5d6875")
    axes.set_xlim(min(0.0, *places) - 0.06 * end, max(end, *places) + 0.06 * end)
    axes.grid(axis="both")


def _side_by_side(at: Sequence[float], step: float) -> list[float]:
    """Return the places so that those nearer than a step stand side by side, in their order, about their middle."""
    rows: list[list[int]] = []
    for i in sorted(range(len(at)), key=lambda i: at[i]):
        if rows and at[i] - at[rows[-1][-1]] < step:
            rows[-1].append(i)
        else:
            rows.append([i])
    places = list(at)
    for row in rows:
        middle = max(sum(at[i] for i in row) / len(row), (len(row) - 1) / 2 * step)  # nothing is left of zero
        for k, i in enumerate(row):
            places[i] = middle + (k - (len(row) - 1) / 2) * step
    return places
