"""page(): a result as one HTML file that needs nothing else, nor a network.
Needs altair and vl-convert (kvc[report])."""

import html
import json

import altair
import vl_convert

from .charts import charts_of
from .table import HEADERS, rows_of, title

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 860px; margin: 2.5em auto; padding: 0 1.5em; }
h1 { font-size: 1.6em; margin-bottom: 0; }
h2 { font-size: 1.15em; margin: 2.2em 0 0; }
p { margin: .3em 0 1em; }
.about, .note { color: #666; font-size: .9em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9em; margin: 1.5em 0; }
th, td { padding: .3em .7em; text-align: right; white-space: nowrap;
         font-variant-numeric: tabular-nums; border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 1px solid #999; font-weight: 600; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
.vega-embed { width: 100%; }
"""
_NOTE = """B/token: bytes of the pool in use at the end, for each token read. KL:
divergence of the next token's distribution from that of the model with its own
f32 cache, in nats. Recall: perplexity of the beginning of a context, told again
at its end. tokens/s: of the median forward."""
_EMBED = {"mode": "vega-lite", "renderer": "svg", "actions": {
    "export": True, "source": False, "compiled": False, "editor": False}}


def specs_of_charts(result):
    """[(id, title, caption, Vega-Lite as a dict)] of the result's charts."""
    found = []
    for ident, name, caption, chart in charts_of(result):
        spec = chart.configure(font="system-ui, sans-serif").configure_view(
            stroke=None).configure_axis(
                labelFontSize=11, titleFontSize=12, titleFontWeight="normal",
                gridColor="#eee").to_dict()
        # An address that nothing is to be read from; _EMBED says the mode.
        spec.pop("$schema", None)
        found.append((ident, name, caption, spec))
    return found


def page(result):
    """The HTML text of a finished result."""
    charts = specs_of_charts(result)
    parts = [
        "<!doctype html>", '<html lang="en">', '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>kvc.eval: {_text(result['model']['name'])}</title>",
        f"<style>{_STYLE}</style>",
        f"<script>{_script(_bundle())}</script>",
        "<h1>What a cache does to a model</h1>",
        f'<p class="about">{_text(title(result))}<br>{_about(result)}</p>',
        _table(result),
        f'<p class="note">{_NOTE}</p>']
    for ident, name, caption, spec in charts:
        parts += [f"<h2>{_text(name)}</h2>", f"<p>{_text(caption)}</p>",
                  f'<div class="scroll"><div id="{ident}"></div></div>',
                  f"<script>vegaEmbed('#{ident}', {_json(spec)}, "
                  f"{_json(_EMBED)});</script>"]
    parts.append('<script type="application/json" id="figures">'
                 f"{_json(result)}</script>")
    return "\n".join([*parts, "</html>", ""])


def _about(result):
    versions = ", ".join(f"{name} {version}" for name, version in
                         result["versions"].items())
    return (f"{_text(result['date'])} on {_text(result['machine']['cpu'])}; "
            f"{_text(versions)}")


def _table(result):
    cells = ["<tr>" + "".join(f"<th>{_text(each)}</th>" for each in HEADERS)
             + "</tr>"]
    for row in rows_of(result):
        cells.append("<tr>" + "".join(f"<td>{_text(each)}</td>"
                                      for each in row) + "</tr>")
    return f'<div class="scroll"><table>{"".join(cells)}</table></div>'


def _bundle():
    """Vega, Vega-Embed, and the Vega-Lite that altair writes for."""
    version = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    if version in vl_convert.get_vegalite_versions():
        return vl_convert.javascript_bundle(vl_version=version)
    return vl_convert.javascript_bundle()


def _text(value):
    return html.escape(str(value))


def _script(code):
    """Code that cannot end the element that it is in."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _json(value):
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
