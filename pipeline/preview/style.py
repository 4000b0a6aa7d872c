"""The page's style: 400 to 1,400 px wide, light and dark as the reader's system is."""

STYLE = """
:root {
  --paper: #fff; --ink: #1d2530; --faint: #667283; --line: #d5dae1; --tile: #f5f7f9;
  --s0: #3b74b9; --s1: #d1495b; --s2: #2a9d8f; --s3: #c98417; --s4: #7b5ea7; --s5: #4f8a3c;
  --s6: #9a5b40; --s7: #1692a8; --s8: #7d8a9a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --ink: #e4e8ed; --faint: #98a4b3; --line: #343c46; --tile: #1c2229;
    --s0: #6ba3e5; --s1: #ee7583; --s2: #4fc3b4; --s3: #e8ac4c; --s4: #a88bd6; --s5: #83bf6d;
    --s6: #c98d70; --s7: #4bbfd4; --s8: #8d99a8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 24px; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 32px 0 10px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; margin: 24px 0 8px; overflow-wrap: anywhere; }
small, figcaption { color: var(--faint); font-weight: normal; }
.figures { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0; padding: 0; list-style: none;
  color: var(--faint); }
.figures b { color: var(--ink); }
.warning { margin: 12px 0 0; padding: 8px 12px; border-left: 4px solid var(--s3);
  background: var(--tile); }
.charts { display: grid; gap: 14px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
.columns { columns: 340px; column-gap: 14px; }
.columns .chart { break-inside: avoid; margin-bottom: 14px; }
.chart { margin: 0; padding: 10px 12px; background: var(--tile); border-radius: 6px; min-width: 0; }
.chart figcaption { margin-bottom: 6px; font-size: 13px; overflow-wrap: anywhere; }
svg { display: block; width: 100%; max-width: 480px; height: auto; }
svg text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .name { text-anchor: end; }
svg .axis { fill: none; stroke: var(--line); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 0 0 10px; font-size: 13px; }
.legend i { display: inline-block; width: 11px; height: 11px; margin-right: 6px;
  border-radius: 2px; }
.sheet { display: grid; gap: 8px; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); }
.sheet figure { margin: 0; min-width: 0; }
.sheet img { display: block; border-radius: 3px; }
.sheet figcaption { max-width: 96px; font-size: 11px; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
table { border-collapse: collapse; font-size: 13px; }
th { text-align: left; font-weight: normal; color: var(--faint); padding: 2px 16px 2px 0;
  vertical-align: top; white-space: nowrap; }
td { overflow-wrap: anywhere; }
""" + "".join(
    f".series{n} {{ fill: var(--s{n}); background: var(--s{n}); }}\n"
    f"svg .line.series{n} {{ fill: none; background: none; stroke: var(--s{n}); }}\n"
    for n in range(9)
)
