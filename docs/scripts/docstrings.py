"""A griffe extension that adapts mmca's docstrings to the site's parser."""

import re

from griffe import Extension, Object


class Docstrings(Extension):
    """Renders `Example:` as code, and Sphinx's roles such as :func:`mmca.layers.Mlp` as names."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            text = re.sub(r'(?m)^(\s*)Example:$', r'\1Examples:', obj.docstring.value)
            obj.docstring.value = re.sub(r':\w+:`~?([^`]+)`', r'`\1`', text)
