"""The style sheet of the HTML report: no fonts, images or scripts, light and dark."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --text: #1b1f24; --quiet: #59636e; --line: #d6dbe1;
  --track: #edf0f3; --good: #1a7f37; --bad: #c1121f; --warn: #8a5a00; --info: #0a5dbf;
  --bar: #4c8dd6; --code: #f2f4f6;
}
@media (prefers-color-scheme: dark) {
  :root:not(:has(#theme-light:checked)) {
    --page: #0f1419; --card: #171d24; --text: #e4e9ee; --quiet: #9aa6b2; --line: #2e3843;
    --track: #202832; --good: #57c26d; --bad: #ff7b80; --warn: #e0a93a; --info: #6db3ff;
    --bar: #3f7fc4; --code: #10161c;
  }
}
:root:has(#theme-dark:checked) {
  color-scheme: dark;
  --page: #0f1419; --card: #171d24; --text: #e4e9ee; --quiet: #9aa6b2; --line: #2e3843;
  --track: #202832; --good: #57c26d; --bad: #ff7b80; --warn: #e0a93a; --info: #6db3ff;
  --bar: #3f7fc4; --code: #10161c;
}
:root:has(#theme-light:checked) { color-scheme: light; }
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main { max-width: 75rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
header { display: flex; flex-wrap: wrap; gap: .5rem 2rem; align-items: start; }
header > div { flex: 1 1 20rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.15rem; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: .95rem; margin: 1.25rem 0 .4rem; }
p { margin: .35rem 0; }
.quiet { color: var(--quiet); }
.theme {
  border: 1px solid var(--line); border-radius: .5rem; margin: 0; padding: .1rem .6rem .3rem;
}
.theme legend { color: var(--quiet); font-size: .8rem; padding: 0 .25rem; }
.theme label { margin-right: .7rem; font-size: .9rem; }
.contents { margin: 1rem 0; padding-left: 1.25rem; }
.contents a { color: var(--info); }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1rem 1.1rem 1.2rem; margin-top: 1.25rem; overflow-x: auto;
}
.title { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: baseline; }
.status {
  font-weight: 600; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .6rem;
  font-size: .85rem;
}
.Completed, .done, .resumed { color: var(--good); }
.Failed, .TimedOut, .failed { color: var(--bad); }
.Cancelled, .retry { color: var(--warn); }
.Running, .Queued, .waiting, .planned { color: var(--info); }
.scroll { overflow-x: auto; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible, input:focus-visible {
  outline: 2px solid var(--info); outline-offset: 2px;
}
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; color: var(--quiet); padding: 0 0 .3rem; font-size: .85rem; }
th, td {
  text-align: left; vertical-align: top; padding: .3rem .6rem;
  border-top: 1px solid var(--line);
}
thead th { border-top: 0; color: var(--quiet); font-weight: 600; font-size: .8rem; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.axis, th.axis { width: 24%; min-width: 9rem; }
tr.gap td {
  color: var(--quiet); font-style: italic; text-align: center; background: var(--track);
  padding: .1rem;
}
.track {
  display: block; position: relative; height: .8rem; margin-top: .3rem;
  background: var(--track); border-radius: .2rem;
}
.track i {
  position: absolute; top: 0; bottom: 0; min-width: 3px; background: var(--bar);
  border-radius: .2rem;
}
.track i.bad { background: var(--bad); }
.track i.again { background: var(--warn); }
ul.marks { list-style: none; margin: 0; padding: 0; }
ul.marks li, p.reason { overflow-wrap: anywhere; white-space: pre-line; }
.more { display: flex; flex-wrap: wrap; gap: 0 1.2rem; color: var(--quiet); font-size: .85rem; }
.more details[open] { flex-basis: 100%; }
ul.marks b { color: var(--text); font-weight: 600; }
.sign { display: inline-block; width: 1.1em; }
summary { cursor: pointer; color: var(--quiet); font-size: .85rem; width: fit-content; }
pre {
  background: var(--code); border: 1px solid var(--line); border-radius: .4rem; margin: .3rem 0;
  padding: .5rem .7rem; overflow-x: auto; max-height: 24rem; white-space: pre-wrap;
    overflow-wrap: anywhere;
  font: .8rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 0 1rem; }
.two > div { min-width: 0; }
footer { margin-top: 1.5rem; color: var(--quiet); font-size: .85rem; }
@media (max-width: 40rem) { td.axis, th.axis { display: none; } }
@media print {
  details:not([open]), .theme { display: none; }
  body { background: none; }
}
"""
