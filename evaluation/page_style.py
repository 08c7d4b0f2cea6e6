"""How the report looks on paper (A4), on a screen, on a phone: tables scroll in themselves, never the page."""

STYLE = """
:root { --ink: #1d2733; --muted: #5d6875; --line: #dfe4ea; --wash: #f6f8fa; --accent: #0b6e7f;
  --PASS: #1b7a4b; --FAIL: #b3261e; --INCONCLUSIVE: #8f6400; }
* { box-sizing: border-box; }
html { color: var(--ink); background: #fff; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
body { max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.05rem; font-weight: 600; margin: 0; letter-spacing: .01em; }
h1 span { display: block; font-weight: 400; color: var(--muted); }
h2 { font-size: 1.25rem; font-weight: 650; margin: 2.6rem 0 .7rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; font-weight: 650; margin: 1.6rem 0 .4rem; }
p { margin: .5rem 0; max-width: 44rem; }
a { color: var(--accent); text-decoration-thickness: .06em; text-underline-offset: .15em; }
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
nav { display: grid; grid-template-columns: repeat(3, 1fr); gap: .8rem; margin: 1.8rem 0 0; }
nav a { display: block; border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; text-decoration: none; color: var(--ink); font-weight: 600; }
nav a small { display: block; color: var(--muted); font-weight: 400; font-size: .82rem; line-height: 1.4; }
nav a:hover { border-color: var(--accent); }
.reader { margin-top: 3.2rem; border-top: 3px solid var(--ink); padding-top: .9rem; }
.reader > .for { display: block; font-size: .82rem; letter-spacing: .04em; color: var(--accent); font-weight: 650; }
.reader > h2:first-of-type { margin-top: .6rem; }
.site-only { background: #5a1a16; color: #fff; padding: .6rem 1rem; border-radius: 6px; margin-bottom: 1.2rem; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--ink); padding: .3rem .7rem .3rem 0; vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); padding: .45rem .7rem .45rem 0; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
td small { display: block; color: var(--muted); font-size: .92em; line-height: 1.4; }
.chip { display: inline-block; font-size: .74rem; font-weight: 650; letter-spacing: .03em; color: var(--tone, var(--muted)); border: 1px solid var(--tone, var(--line)); border-radius: 99px; padding: .02rem .55rem; white-space: nowrap; background: #fff; }
.attacks td:first-child { width: 32%; min-width: 12rem; } .attacks td:nth-child(3) { min-width: 7.2rem; } .attacks .number small { white-space: normal; max-width: 8.5rem; margin-left: auto; }
.attacks td:nth-child(2) small { white-space: nowrap; }
.PASS { --tone: var(--PASS); } .FAIL { --tone: var(--FAIL); } .INCONCLUSIVE { --tone: var(--INCONCLUSIVE); }
.caught { text-align: center; padding: .3rem .4rem; border: 2px solid #fff; border-radius: 6px; white-space: nowrap; }
.caught small { display: block; }
figure { margin: 1rem 0; break-inside: avoid; overflow-x: auto; }
figure svg { width: 100%; height: auto; display: block; }
figure svg text { font-family: inherit !important; }
figure img { width: 100%; display: block; }
figcaption { color: var(--muted); font-size: .87rem; margin-bottom: .35rem; }
.swatch { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin: 0 .25em 0 .9em; vertical-align: -.05em; }
.epsilon { display: grid; grid-template-columns: auto 1fr; gap: 0 1.6rem; align-items: start; }
.epsilon .big { font-size: 2.6rem; font-weight: 650; line-height: 1.1; letter-spacing: -.02em; white-space: nowrap; }
.epsilon .big small { display: block; font-size: .85rem; font-weight: 400; color: var(--muted); letter-spacing: 0; }
.scale { position: relative; height: 2.6rem; margin: .6rem 0 .2rem; max-width: 44rem; }
.scale i { position: absolute; top: .2rem; height: .5rem; background: var(--line); left: 0; right: 0; border-radius: 99px; }
.scale i + i { background: var(--accent); left: 50%; right: auto; }
.scale span { position: absolute; top: .95rem; font-size: .78rem; color: var(--muted); white-space: nowrap; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem; }
ul { margin: .4rem 0; padding-left: 1.1rem; max-width: 44rem; }
li { margin: .2rem 0; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .82em; }
code { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; line-height: 1.45; overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--line); }
details:first-of-type { border-top: 1px solid var(--line); }
summary { cursor: pointer; padding: .45rem 0; font-weight: 600; }
summary span { font-weight: 400; color: var(--muted); }
details > :last-child { margin-bottom: .9rem; }
dl.record { display: grid; grid-template-columns: 11rem 1fr; gap: .25rem 1rem; font-size: .88rem; margin: .6rem 0; }
dl.record dt { color: var(--muted); } dl.record dd { margin: 0; min-width: 0; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--muted); font-size: .85rem; }
@media screen and (max-width: 44rem) {
  body { padding: 1.2rem 1rem 3rem; }
  header { flex-wrap: wrap; } header .where { margin-left: 0; text-align: left; }
  .facts { grid-template-columns: 1fr 1fr; } nav, .two, .epsilon, dl.record { grid-template-columns: 1fr; }
  dl.record dt { margin-top: .35rem; }
  .scroll table { min-width: 34rem; } .scroll table.attacks { min-width: 42rem; } figure svg { min-width: 34rem; }
}
@page { size: A4; margin: 16mm 15mm 18mm; }
@media print {
  html { font-size: 10.5pt; } body { padding: 0; max-width: none; }
  h2 { margin-top: 1.8rem; break-after: avoid; } h3, summary { break-after: avoid; }
  .reader { margin-top: 0; break-before: page; } #officer { margin-top: 1.6rem; break-before: auto; }
  tr, .banner, .epsilon, .keep, .two { break-inside: avoid; } pre { font-size: 6.5pt; } thead { display: table-header-group; }
  .scroll, figure { overflow: visible; } table { font-size: .8rem; }
  summary { list-style: none; } details::details-content { content-visibility: visible; height: auto; }
  .site-only { position: fixed; top: 0; right: 0; font-size: 8pt; padding: .2rem .5rem; }
}
"""
