"""The style sheet of the page: light and dark, screen and paper, desktop and telephone."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f6f8; --card: #ffffff; --text: #1b2128; --quiet: #545e69; --line: #d5dbe1; --head: #eef1f4;
  --good: #11652d; --good-back: #dff5e5; --bad: #a31b12; --bad-back: #fde9e7;
  --warn: #7a4b00; --warn-back: #fff1cf; --none: #4d5761; --none-back: #e8ecf0;
  --bar: #2f6db5; --stage: #65717d; --bar-bad: #c23a2f; --bar-other: #8f5d00; --in-bar: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1317; --card: #181e24; --text: #e4e8ec; --quiet: #a6b0ba; --line: #333c45; --head: #20272e;
    --good: #7ddb9c; --good-back: #12301d; --bad: #ff9d94; --bad-back: #3c1a17;
    --warn: #f2c777; --warn-back: #38290b; --none: #b4bdc6; --none-back: #2a323a;
    --bar: #6ea8ea; --stage: #7f8c99; --bar-bad: #f0776c; --bar-other: #dca544; --in-bar: #0f1317;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); overflow-wrap: anywhere;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 70rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 1.75rem; padding-bottom: .8rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .3rem 0; }
a { color: inherit; text-underline-offset: .15em; }
code, pre { font: .92em/1.45 ui-monospace, "Liberation Mono", "DejaVu Sans Mono", monospace; }
.above { color: var(--quiet); font-size: .85rem; margin: 0; }
.quiet { color: var(--quiet); }
.small { font-size: .87rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; padding: 0; margin: .7rem 0 1rem;
  font-size: .9rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.1rem 1.1rem;
  margin: 0 0 1rem; }
.verdict { border-left: 6px solid; padding: .9rem 1.1rem; border-radius: 8px; margin: 0 0 .8rem; }
.verdict h2 { font-size: 1.5rem; line-height: 1.25; margin: 0; }
.verdict.good { border-color: var(--good); background: var(--good-back); }
.verdict.good h2 { color: var(--good); }
.verdict.bad { border-color: var(--bad); background: var(--bad-back); }
.verdict.bad h2 { color: var(--bad); }
.verdict.unclear { border-color: var(--warn); background: var(--warn-back); }
.verdict.unclear h2 { color: var(--warn); }
.verdict ul { margin: .3rem 0 0; padding-left: 1.2rem; }
.change { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .55rem .8rem;
  margin: .55rem 0; }
.change b { display: block; font-size: .82rem; color: var(--quiet); }
.mark { display: inline-block; min-width: 4.6em; padding: .05rem .5rem; border-radius: 4px; font-weight: 600;
  font-size: .84rem; white-space: nowrap; background: var(--none-back); color: var(--none); }
.mark.good { background: var(--good-back); color: var(--good); }
.mark.bad { background: var(--bad-back); color: var(--bad); }
.mark.warn { background: var(--warn-back); color: var(--warn); }
.brief { display: grid; grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr)); gap: .8rem 1.4rem; margin: 0; }
.brief dt { color: var(--quiet); font-size: .82rem; }
.brief dd { margin: 0; font-weight: 600; }
.brief dd small { display: block; font-weight: 400; font-size: .82rem; color: var(--quiet); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .2rem 0 .4rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { text-align: left; vertical-align: top; padding: .38rem .9rem .38rem 0; border-top: 1px solid var(--line);
  font-weight: inherit; }
thead th { border: 0; color: var(--quiet); font-size: .82rem; padding-bottom: .2rem; min-width: 5.2rem; }
tbody th { font-weight: 600; }
.facts { table-layout: fixed; }
.facts th:first-child { width: 13rem; }
.facts th:nth-child(3), .facts td:nth-child(3) { width: 32%; color: var(--quiet); }
.group + .group .facts thead th { font-size: 0; line-height: 0; padding-top: 0; padding-bottom: 0; }
.group + .group .facts tbody tr:first-child > * { border-top-color: var(--quiet); }
.checks { table-layout: fixed; }
.checks thead th:first-child { width: 6.3rem; }
.checks thead th:nth-child(2) { width: 11rem; }
.checks.several thead th:nth-child(3) { width: 6.5rem; }
.limits { list-style: none; margin: .2rem 0 0; padding: 0; font-size: .87rem; color: var(--quiet); }
.limits .decides { color: var(--text); font-weight: 600; }
.list { margin: 0; padding-left: 1.1rem; }
summary { cursor: pointer; }
details > summary { color: var(--quiet); font-size: .9rem; }
.group { margin: 0 0 1rem; }
.chart { margin: 0 0 .5rem; }
.lane { display: grid; grid-template-columns: 11rem minmax(0, 1fr); }
.lane.axis { position: sticky; top: 0; background: var(--card); border-bottom: 1px solid var(--line); z-index: 1; }
.lane + .lane { border-top: 1px solid var(--line); }
.names { font-size: 12.5px; }
.names div { height: 22px; line-height: 22px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  padding: 0 .6rem 0 .8rem; }
.names .stage { font-weight: 600; padding-left: 0; }
svg { display: block; width: 100%; font: 11.5px system-ui, "Liberation Sans", "DejaVu Sans", sans-serif; }
svg text { fill: var(--text); }
svg text.in { fill: var(--in-bar); }
svg text.tick { fill: var(--quiet); }
svg line { stroke: var(--line); }
svg rect { fill: var(--bar); stroke: var(--bar); stroke-width: 1.5px; }
svg rect.stage { fill: var(--stage); stroke: var(--stage); }
svg rect.bad { fill: var(--bar-bad); stroke: var(--bar-bad); }
svg rect.other { fill: var(--bar-other); stroke: var(--bar-other); }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .84rem; color: var(--quiet); margin: 0 0 .4rem; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em;
  vertical-align: -.05em; background: var(--bar); }
.key i.stage { background: var(--stage); }
.key i.bad { background: var(--bar-bad); }
.key i.other { background: var(--bar-other); }
footer { color: var(--quiet); font-size: .85rem; padding-bottom: 2rem; }
@media screen and (max-width: 52rem) {
  main, header, footer { padding-left: .75rem; padding-right: .75rem; }
  header { padding-top: 1rem; }
  section { padding: .8rem; }
  .brief { grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
  .lane { grid-template-columns: 6.2rem minmax(0, 1fr); }
  .names div { padding-left: .4rem; padding-right: .3rem; }
  table, tbody, tr, th, td, .facts th:first-child, .facts td:nth-child(3)
    { display: block; width: auto; }
  caption { display: block; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  tr { border-top: 1px solid var(--line); padding: .4rem 0; }
  th, td { border: 0; padding: .1rem 0; }
  td[data-head]::before { content: attr(data-head) ": "; color: var(--quiet); font-size: .82rem; }
  .facts td[data-head="value"]::before { content: none; }
  td.empty, .facts td.empty:nth-child(n) { display: none; }
}
@media print {
  :root { color-scheme: light;
    --page: #fff; --card: #fff; --text: #000; --quiet: #444; --line: #bbb; --head: #fff;
    --good: #11652d; --good-back: #fff; --bad: #a31b12; --bad-back: #fff; --warn: #7a4b00; --warn-back: #fff;
    --none: #444; --none-back: #fff; --bar: #2f6db5; --stage: #65717d; --bar-bad: #c23a2f; --bar-other: #8f5d00;
    --in-bar: #fff; }
  body { font-size: 10pt; print-color-adjust: exact; }
  main, header, footer { max-width: none; padding: 0; }
  section { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: .6rem 0; }
  nav, .download { display: none; }
  .mark { border: 1px solid currentColor; }
  .lane.axis { position: static; }
  thead th { min-width: 0; }
  details:not(.twice)::details-content { content-visibility: visible; block-size: auto; }
  tr, .verdict, .brief div, .lane { break-inside: avoid; }
  h2, caption, summary { break-after: avoid; }
}
"""
