"""Builds the site without a network: no intersphinx, no remote images."""

import os
import re

os.environ.setdefault("SCIPY_ARRAY_API", "1")

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

import sknfk

project = "sknfk"
author = "The sknfk developers"
copyright = author
version = release = sknfk.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

html_theme = "pydata_sphinx_theme"
html_title = "sknfk"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "header_links_before_dropdown": 5}
html_sidebars = {"*": []}  # pages of the top level have no others below them to navigate to
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False

autosummary_generate = True
autosummary_ignore_module_all = False  # a room's public names are those of its __all__
autosummary_imported_members = True
autodoc_typehints = "none"  # numpydoc's sections state types and shapes
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]+\.py$",
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,  # its page fetches scripts from elsewhere
    "min_reported_time": 1,
}


# What docstrings write and reST would read as emphasis or as a link: (B, *input), (n_components_, 3).
STAR_SHAPE = re.compile(r"(?<=[(, ])(\*)(?=\w+[,)])")
FITTED_NAME = re.compile(r"(?<![\w`*:|\\])([A-Za-z]\w*)(_)(?=[\s,;.)]|$)")


def escape_house_notation(app, what, name, obj, options, lines):
    for number, line in enumerate(lines):
        parts = line.split("``")  # every second one is a literal
        parts[::2] = [FITTED_NAME.sub(r"\1\\_", STAR_SHAPE.sub(r"\\*", part)) for part in parts[::2]]
        lines[number] = "``".join(parts)


def visit_math(writer, node):
    """Write a formula as MathML, which browsers show without a script from elsewhere."""
    display = "block" if node.tagname == "math_block" else "inline"
    writer.body.append(convert(node.astext(), display=display))
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("autodoc-process-docstring", escape_house_notation)
