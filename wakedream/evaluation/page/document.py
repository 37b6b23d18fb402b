"""The parts of an HTML page that needs no other file: style, tables, pictures, videos."""

import base64
import html
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1d2329; --soft: #66707a; --line: #dde2e7;
  --card: #f5f7f9 }
@media (prefers-color-scheme: dark) {
  :root { --back: #14181c; --ink: #e3e8ec; --soft: #98a2ab; --line: #2c343b; --card: #1c2227 } }
* { box-sizing: border-box }
body { background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 }
main { max-width: 1040px; margin: 0 auto; padding: 24px 16px 64px }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 40px 0 8px }
p, figcaption { color: var(--soft); margin: 4px 0 12px; max-width: 75ch }
.warning { color: var(--ink); border-left: 4px solid #d9793a; padding: 4px 12px }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin: 20px 0 }
.numbers div { background: var(--card); border-radius: 10px; padding: 12px 16px }
.numbers b { display: block; font-size: 1.7rem; font-weight: 600; font-variant-numeric: tabular-nums }
.numbers span { color: var(--soft); font-size: .85rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 5px 18px 5px 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line) }
th:first-child, td:first-child, th.text, td.text { text-align: left }
th { color: var(--soft); font-weight: 500; font-size: .85rem }
figure { margin: 0 0 14px }
.strip { width: 100%; min-width: 640px; display: block; image-rendering: pixelated; border-radius: 4px }
.label { font-size: .85rem; color: var(--soft); margin: 8px 0 2px }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 16px }
.plot { width: 100%; height: auto; display: block } .plot text { font-family: inherit !important }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 12px }
.maps img { width: 100%; display: block; image-rendering: pixelated; border-radius: 4px }
.maps figcaption { font-size: .78rem; margin: 2px 0; line-height: 1.3 }
@media (max-width: 560px) {
  th, td { padding-right: 9px; font-size: .82rem } th.text, td.text { white-space: normal } }
video { width: 100%; min-width: 640px; display: block; border-radius: 4px; background: #000 }
footer { margin-top: 48px; color: var(--soft); font-size: .85rem; overflow-wrap: anywhere }
"""


def document(title: str, parts: Sequence[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def section(title: str, text: str, *parts: str) -> str:
    """A heading, a sentence on what is seen, and the parts."""
    return f"<section><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{''.join(parts)}</section>"


def warning(text: str) -> str:
    return f'<p class="warning">{html.escape(text[:1].upper() + text[1:])}.</p>' if text else ""


def numbers(values: Sequence[tuple[str, str]]) -> str:
    """Large figures: (value, what it is)."""
    cells = (f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for value, name in values)
    return f'<div class="numbers">{"".join(cells)}</div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        kinds = [' class="text"' if i < text_columns else "" for i in range(len(cells))]
        inner = (f"<{tag}{kind}>{html.escape(c)}</{tag}>" for kind, c in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return f'<div class="wide"><table>{row("th", columns)}{body}</table></div>'


def label(name: str) -> str:
    return f'<div class="label">{html.escape(name)}</div>'


def strips(named: Sequence[tuple[str, bytes]]) -> str:
    """Wide pictures below one another, scrolled together on a narrow screen."""
    parts = (
        f'{label(name)}<img class="strip" alt="{html.escape(name)}" src="{data_uri(png, "image/png")}">'
        for name, png in named
    )
    return f'<div class="wide">{"".join(parts)}</div>'


def maps(captioned: Sequence[tuple[str, bytes]]) -> str:
    parts = (
        f'<figure><img alt="{html.escape(caption)}" src="{data_uri(png, "image/png")}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, png in captioned
    )
    return f'<div class="maps">{"".join(parts)}</div>'


def video(mp4: bytes, caption: str) -> str:
    source = data_uri(mp4, "video/mp4")
    player = f'<video controls loop muted autoplay playsinline src="{source}"></video>'
    return f'<figure class="wide">{player}<figcaption>{html.escape(caption)}</figcaption></figure>'


def plots(svgs: Sequence[str]) -> str:
    return f'<div class="plots">{"".join(f"<figure>{svg}</figure>" for svg in svgs)}</div>'


def footer(text: str, file: str) -> str:
    """And a link to a file beside the page."""
    return f'<footer>{html.escape(text)} <a href="{html.escape(file)}">{html.escape(file)}</a></footer>'


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
