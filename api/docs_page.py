"""The page at `/docs`: our OpenAPI for people, without a byte from the internet.

FastAPI's own page loads Swagger UI from a CDN; a swarm at home must not need one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em;
       color-scheme: light dark }}
code, pre {{ font-size: 14px }} pre {{ overflow: auto }} summary {{ cursor: pointer }}
</style>
<h1>{title} <small>{version}</small></h1>
<p>The same for programs: <a href="/openapi.json"><code>/openapi.json</code></a></p>
{operations}
<h2>Bodies</h2>
{schemas}
</html>
"""


def docs_page(openapi: Mapping[str, Any]) -> str:
    """HTML that lists every operation and every body of `openapi`."""
    operations = [
        f"<h3><code>{escape(method.upper())} {escape(path)}</code></h3>"
        f"<p>{escape(operation.get('description', ''))}</p>{_parameters(operation)}"
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> '
        f"{escape(schema.get('description', ''))}</summary>"
        f"<pre>{escape(json.dumps(schema, indent=2))}</pre></details>"
        for name, schema in openapi.get("components", {}).get("schemas", {}).items()
    ]
    return _PAGE.format(
        title=escape(openapi["info"]["title"]),
        version=escape(openapi["info"]["version"]),
        operations="\n".join(operations),
        schemas="\n".join(schemas),
    )


def _parameters(operation: Mapping[str, Any]) -> str:
    """Those in its headers, path and query; their schemas say what they may be."""
    rows = [
        f"<li><code>{escape(each['name'])}</code> ({escape(each['in'])}) "
        f"{escape(each.get('description', ''))} <code>{escape(json.dumps(each['schema']))}</code></li>"
        for each in operation.get("parameters", ())
    ]
    return f"<ul>{''.join(rows)}</ul>" if rows else ""
