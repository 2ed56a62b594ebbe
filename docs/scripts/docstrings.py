"""A griffe extension that adapts mmca's docstrings to the site's parser."""

import re
import textwrap

from griffe import Extension, Object


class Docstrings(Extension):
    """Renders examples as code, and Sphinx's roles such as :func:`mmca.layers.Mlp` as names."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            text = re.sub(r'(?m)^(\s*)Example:$', r'\1Examples:', obj.docstring.value)
            text = re.sub(r'(?m)^Example::\n\n((?:.*\n?)+)', _fenced, text)
            text = re.sub(r'(?m)^Example \((.+)\):\n((?:    .*\n?)+)', _fenced, text)
            obj.docstring.value = re.sub(r':\w+:`~?([^`]+)`', r'`\1`', text)


def _fenced(found: re.Match) -> str:
    """A literal block at the end of a docstring, or an example in a config, as code."""
    *where, code = found.groups()
    heading = f'**Example {where[0]}:**' if where else '**Example:**'
    return f'{heading}\n\n```python\n{textwrap.dedent(code).strip()}\n```\n'
