"""Refuse templates of notices that could take long or fill the memory: they come with the files."""

import re
from typing import Final

from jinja2 import TemplateSyntaxError, nodes

LONGEST: Final = 16 << 10
"""Upper bound of a template's characters."""
_LOOPS: Final = 2
"""Upper bound of nested loops; facts have few items."""
_METHODS: Final = re.compile(
    "items|keys|values|get|startswith|endswith|upper|lower|title|strip|split"
)
_FILTERS: Final = re.compile(
    "abs|capitalize|count|d|default|e|escape|first|float|int|items|join|last|length|list|lower|map|max"
    "|min|reject|rejectattr|replace|reverse|round|select|selectattr|sort|string|sum|title|tojson"
    "|trim|truncate|unique|upper|urlencode|wordcount"
)
_GROWING: Final = (nodes.Concat, nodes.Add, nodes.List, nodes.Tuple, nodes.Dict)


def check_work(tree: nodes.Template, source: str) -> None:
    """Refuse a template whose work is not bounded by its own length and its facts.

    Raises:
        TemplateSyntaxError: with the line.
    """
    if len(source) > LONGEST:
        raise TemplateSyntaxError(f"it has more than {LONGEST} characters", 1)
    for node in tree.find_all(nodes.Node):
        if reason := _reason(node):
            raise TemplateSyntaxError(f"{reason} may take long", node.lineno)
    _check_loops(tree, 0)


def _reason(node: nodes.Node) -> str:  # noqa: PLR0911 (a case a kind)
    match node:
        case nodes.Mul() | nodes.Pow() | nodes.Mod():
            return "`*`, `**` or `%`"
        case nodes.Filter(name=name) if not _FILTERS.fullmatch(name):
            return f"the filter `{name}`"
        case nodes.Call(node=nodes.Getattr(attr=attr)) if _METHODS.fullmatch(attr):
            return ""
        case nodes.Call() | nodes.Macro() | nodes.CallBlock() | nodes.AssignBlock():
            return "a call or a macro"
        case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
            return "another template"
        case nodes.For(iter=nodes.Const() | nodes.List() | nodes.Tuple() | nodes.Concat()):
            return "a loop over a text or a list of the template's own"
        case nodes.Assign(node=value) | nodes.With(values=[value, *_]) if _grows(value):
            return "a variable made of others"
        case _:
            return ""


def _grows(value: nodes.Node) -> bool:
    joins = any(found.name in {"join", "replace"} for found in value.find_all(nodes.Filter))
    grown = (value, *value.find_all(nodes.Expr))
    return joins or any(isinstance(found, _GROWING) for found in grown)


def _check_loops(node: nodes.Node, depth: int) -> None:
    if depth > _LOOPS:
        raise TemplateSyntaxError(f"over {_LOOPS} nested loops may take long", node.lineno)
    for child in node.iter_child_nodes():
        _check_loops(child, depth + isinstance(child, nodes.For))
