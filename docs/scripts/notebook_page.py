"""Show docs/afternoon.ipynb, with the outputs stored in it, as a page: a hook of MkDocs."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add afternoon.md and its pictures, which exist only in the site."""
    text, resources = MarkdownExporter().from_filename(Path(config.docs_dir) / 'afternoon.ipynb')
    files.append(File.generated(config, 'afternoon.md', content=text))
    for name, content in resources['outputs'].items():
        files.append(File.generated(config, name, content=content))
