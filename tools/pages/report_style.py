"""The look of the report page: one style sheet, light and dark, phone to wide screen, no fonts or scripts to load."""

from oscar_paddle.tools.pages.markup import Html

STYLE = Html("""
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --text: #1b2330; --soft: #586274; --line: #dfe3ea;
  --bar: #3062c4; --bar2: #c2571a; --track: #e8ebf1; --right: #12733a; --right-soft: #e4f5ea; --wrong: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1b212a; --text: #e6eaf0; --soft: #a0aabb; --line: #303947;
    --bar: #7aa5ff; --bar2: #f0a06a; --track: #2b3340; --right: #4fc777; --right-soft: #17301f; --wrong: #ff8b80;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 4.5rem; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 75rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; margin: 2.75rem 0 .35rem; }
h3 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .35rem 0 1rem; max-width: 50rem; }
.soft, figcaption, footer, dt, th small, td small { color: var(--soft); }
nav { position: sticky; top: 0; z-index: 2; background: var(--page); border-bottom: 1px solid var(--line); }
nav > div { max-width: 75rem; margin: 0 auto; padding: .55rem 1.25rem; display: flex; flex-wrap: wrap;
  gap: .25rem 1.25rem; align-items: center; font-size: .92rem; }
nav label { margin-left: auto; display: flex; gap: .45rem; align-items: center; cursor: pointer; }
a { color: var(--bar); text-underline-offset: .2em; }
:focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; border-radius: 3px; }

.card, .query { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.1rem; }
.result { display: grid; gap: 1rem; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); align-items: start; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; vertical-align: top; padding: .4rem .9rem .4rem 0; }
td { padding: .4rem 0 .4rem .9rem; width: 21%; vertical-align: top; }
thead th { padding: 0 0 .2rem .9rem; } thead td { padding: 0; width: auto; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
th small, td small { display: block; font-weight: 400; }
td b { font-size: 1.3rem; white-space: nowrap; } td .soft { font-size: .86rem; white-space: nowrap; }
.track { position: relative; height: .6rem; margin: .15rem 0 .1rem; border-radius: .3rem; background: var(--track); }
.track i { position: absolute; left: 0; top: 0; bottom: 0; border-radius: .3rem; background: var(--bar); }
.track u { position: absolute; top: -.2rem; bottom: -.2rem; width: 2px; background: var(--text); }
dl { display: grid; grid-template-columns: auto 1fr; gap: .2rem 1rem; margin: 0; font-size: .92rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.curves { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.curves figure { margin: 0; } .curves svg { width: 100%; height: auto; display: block; }
.curves text { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line0 { stroke: var(--bar); } .line1 { stroke: var(--bar2); } circle.line0 { fill: var(--bar); }
circle.line1 { fill: var(--bar2); }
.legend span { margin-left: 1rem; white-space: nowrap; }
.legend span::before { content: ""; display: inline-block; width: 1rem; height: 3px; margin-right: .4rem;
  vertical-align: middle; background: var(--bar); }
.legend .key1::before { background: var(--bar2); }

.query { margin: 0 0 1rem; }
.query > div:first-child { display: flex; flex-wrap: wrap; gap: .3rem 1rem; justify-content: space-between;
  align-items: baseline; margin-bottom: .75rem; }
.badge { font-size: .86rem; font-weight: 600; color: var(--wrong); white-space: nowrap; }
.badge.first { color: var(--right); } .badge.near { color: var(--soft); }
.pictures { display: grid; gap: .8rem; grid-template-columns: repeat(6, minmax(0, 1fr)); }
.pictures figure, .ask figure { margin: 0; min-width: 0; }
.frame { position: relative; aspect-ratio: 4 / 3; border-radius: 8px; overflow: hidden; background: var(--track); }
.frame img { width: 100%; height: 100%; object-fit: contain; display: block; }
.right .frame { outline: 4px solid var(--right); }
.beyond { padding-left: .8rem; border-left: 2px dashed var(--line); }
.pictures figcaption { display: flex; flex-wrap: wrap; gap: 0 .6rem; padding-top: .35rem; font-size: .85rem;
  line-height: 1.35; font-variant-numeric: tabular-nums; }
figcaption b { color: var(--text); }
.ok { color: var(--right); font-weight: 600; }
.boxes { display: none; position: absolute; inset: 0; width: 100%; height: 100%; }
body:has(#show-boxes:checked) .boxes { display: block; }
.boxes rect { fill: none; stroke: currentColor; stroke-width: 1.75px; vector-effect: non-scaling-stroke;
  filter: drop-shadow(0 0 1px #000); }
.boxes text { fill: currentColor; stroke: #000; stroke-width: .25em; paint-order: stroke; font-weight: 600; }
.box0 { color: #ffe14d; } .box1 { color: #6fe3ff; } .box2 { color: #ff9df0; } .box3 { color: #9dff8a; }
.box4 { color: #ffb366; } .box5 { color: #ffffff; }
.two { display: grid; gap: 1rem; grid-template-columns: repeat(2, minmax(0, 1fr)); align-items: stretch; }
.two .query { margin: 0; }
.ask { display: grid; gap: 1rem; grid-template-columns: 12.5rem minmax(0, 1fr); align-items: start; }
ol { list-style: none; margin: 0; padding: 0; font-size: .95rem; line-height: 1.35; }
li { display: grid; grid-template-columns: 2.2rem minmax(0, 1fr) auto; gap: .6rem; padding: .28rem .5rem;
  border-radius: 6px; overflow-wrap: anywhere; }
li > span:first-child, li > span:last-child { color: var(--soft); text-align: right;
  font-variant-numeric: tabular-nums; }
li.right { background: var(--right-soft); box-shadow: inset 3px 0 var(--right); }
li.beyond { border-left: 0; border-top: 2px dashed var(--line); border-radius: 0; margin-top: .35rem; }
footer { padding: 1.5rem 1.25rem 3rem; font-size: .88rem; }
code { overflow-wrap: anywhere; }
@media (max-width: 62rem) { .two, .result { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 40rem) {
  header, main, footer, nav > div { padding-left: .8rem; padding-right: .8rem; }
  nav { position: static; } nav label { margin-left: 0; } html { scroll-padding-top: 0; }
  .pictures { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .beyond { padding-left: 0; border-left: 0; }
  .ask { grid-template-columns: minmax(0, 1fr); } .ask figure { max-width: 16rem; }
  tbody, tbody tr { display: grid; } tbody tr { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  tbody th { grid-column: 1 / -1; } thead { display: none; }
  td { width: auto; padding: .2rem .6rem .6rem 0; border: 0 !important; } td b { font-size: 1.15rem; }
  td::before { content: attr(data-name); display: block; font-size: .86rem; } td .soft { display: block; }
}
@media print { nav { display: none; } .query, .card { break-inside: avoid; } }
""")
