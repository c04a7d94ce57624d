"""From a template to one page that needs nothing else: no network, no folder beside it.

Every text goes through jinja2's autoescape, and data through ``script_json``: names in a model
or a file are never read as markup.  A content security policy in the page forbids it to load
anything, so that "works offline" cannot silently stop being true.
"""

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fanin.reporting.numbers import count, measurement, number, percent

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """The template with these values, and with the style and scripts that it names inlined."""
    return _environment().get_template(template).render(**values)


def script_json(value: Any) -> "Markup":
    """JSON that can stand inside ``<script>``: no text in it can close the element.

    Raises:
        ValueError: a NaN or an infinity is left in the value; JSON has neither.
    """
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def prose(text: str) -> "Markup":
    """Text with ``code`` between back ticks, as the rules' pages write it; all else escaped.

    Examples:
        >>> str(prose("`std` < 1"))
        '<code>std</code> &lt; 1'
    """
    from markupsafe import Markup, escape

    parts = text.replace("``", "`").split("`")
    marked = (
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
    # An odd back tick has no partner: then the text stands as it is.
    return Markup("").join(marked) if len(parts) % 2 else escape(text)


@cache
def plotly_script() -> "Markup":
    """The plotly.js that plotly's Python package carries, to stand inside ``<script>``."""
    from markupsafe import Markup

    source = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    # "</script" inside a JavaScript string would end the element; "<\/script" is the same string.
    return Markup(source.replace("</script", "<\\/script"))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("fanin.reporting.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def inlined(name: str) -> Markup:
        return Markup(files(__package__).joinpath("templates", name).read_text(encoding="utf-8"))

    environment.filters.update(
        number=number, percent=percent, count=count, prose=prose, measurement=measurement
    )
    environment.globals.update(inlined=inlined, script_json=script_json)
    return environment
