"""HTML by function calls: text is escaped unless it is already HTML, so no caption can break a page."""

import html

_EMPTY = {"img", "meta", "input", "br"}  # elements without an end tag


class Html(str):
    """Text that is HTML already. Only `element` and constants of this project make it."""


def element(name, /, *children, **attributes):
    """One HTML or SVG element.

    Args:
        name: "p", "svg", ...
        children: Html as it is; other values as escaped text; lists and tuples are laid out; None and "" are left out.
        attributes: names with "_" for "-"; a last "_" is dropped (`class_`); None leaves the attribute out.
    Returns:
        Html.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"')
    start = f"<{' '.join(words)}>"
    return Html(start if name in _EMPTY else f"{start}{''.join(map(_inside, children))}</{name}>")


def _inside(child):
    if child is None:
        return ""
    if isinstance(child, (list, tuple)):
        return "".join(map(_inside, child))
    return child if isinstance(child, Html) else html.escape(str(child))
