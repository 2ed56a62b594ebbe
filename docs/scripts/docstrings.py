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
            text = re.sub(r'(?s)Example::\n\n(.*)', _fenced, text)
            obj.docstring.value = re.sub(r':\w+:`~?([^`]+)`', r'`\1`', text)


def _fenced(found: re.Match) -> str:
    """The literal block at the end of a docstring as an example's code."""
    code = textwrap.dedent(found[1]).strip()
    return 'Examples:\n' + textwrap.indent(f'```python\n{code}\n```', '    ')
