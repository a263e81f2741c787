"""Plain-text mathematics ('E_pi[pi/e] <= Delta', 'kl(V || V_e)') as HTML: Greek letters, subscripts, real
signs.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_GREEK = {
    "eps": "ε", "kappa": "κ", "theta": "θ", "zeta": "ζ", "delta": "δ", "Delta": "Δ", "sigma": "σ", "gamma": "γ",
    "beta": "β", "nu": "ν", "xi": "ξ", "mu": "μ", "phi": "φ", "Phi": "Φ", "Pi": "Π", "pi": "π",
}  # fmt: skip
_WORD = re.compile(r"(?<![A-Za-z.])(" + "|".join(_GREEK) + r")(?=\d?(?![A-Za-z]))")
_SUB = re.compile(r"(?<![A-Za-z])([A-Za-zΔΠπ]{1,2})_(\w+)")
_SUP = re.compile(r"\^(\([^()]*\)|\w+)")


def greek(text: str) -> str:
    """'eps = 0.01' -> 'ε = 0.01': whole words only. For figures and the page."""
    return _WORD.sub(lambda m: _GREEK[m.group(1)], text)


def typeset(text: str) -> Markup:
    """Escaped HTML of a plain-text statement."""
    html = str(escape(greek(text)))
    html = html.replace("&lt;=", "≤").replace("&gt;=", "≥").replace("||", "∥")
    html = re.sub(r"(?<=[\w)\]|]) - (?=[\w(\[])", " − ", html)
    html = re.sub(r"(^|[=(\[,≤≥] ?)-(?=[\d\wlΔ(])", r"\1−", html)
    html = re.sub(r"(?<![\w.])([1lnv])-(?=[1-9vtζκε](?!\w))", r"\1−", html).replace("sqrt(", "√(")
    html = _SUB.sub(lambda m: f"{m.group(1)}<sub>{greek(m.group(2))}</sub>", html)
    html = _SUP.sub(lambda m: f"<sup>{m.group(1).strip('()')}</sup>", html)
    html = re.sub(r"(\d)/(?=[ε(])", "\\1/\u2060", html)  # no line break after the slash
    html = re.sub(r"\b(OFF|ON)-([SGL])\b", "\\1\u2011\\2", html)  # a hyphen that does not break
    return Markup(html)
