"""The documentation site: ``make docs`` builds it into build/site.

The source is the whole checkout, so that pages link to files and pictures where they stand; only what is named below is
read. The reference is written anew by every build, from the faces of the rooms.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_site"))

import commands  # noqa: E402
import faces  # noqa: E402
import formulas  # noqa: E402
import parameters  # noqa: E402
from docutils import nodes  # noqa: E402
from docutils.statemachine import StringList  # noqa: E402
from jinja2 import FileSystemLoader  # noqa: E402
from jinja2.sandbox import SandboxedEnvironment  # noqa: E402
from numpydoc import docscrape_sphinx  # noqa: E402
from sphinx.addnodes import pending_xref  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from sphinx.util.docutils import SphinxDirective  # noqa: E402
from sphinx.util.nodes import nested_parse_with_titles  # noqa: E402

from xbarsim.foundation.version import VERSION  # noqa: E402

project = "xbarsim"
author = copyright = "The xbarsim authors"
release = version = VERSION

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "notebooks/*.ipynb",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "README.md",
]
# Folders without pages: Sphinx walks through all that are not named here, links and environments included.
exclude_patterns = [
    "docs/_site",
    "**/.*",
    *sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("docs", "notebooks")),
]
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_nb"]

numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autosummary_generate = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = os.environ.get("XBARSIM_NOTEBOOKS", "off")  # "cache" runs those that have changed
nb_execution_cache_path = str(ROOT / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

smartquotes = False  # two dashes before an option are two

html_theme = "pydata_sphinx_theme"
html_title = "xbarsim"
html_math_renderer = "mathml"
html_static_path = ["_site/style.css"]
html_css_files = ["style.css"]
html_copy_source = html_show_sourcelink = False
html_sidebars = {"docs/index": [], "docs/gallery": [], "docs/install": []}  # what has no pages beside it
html_context = {"default_mode": "auto"}
html_theme_options: dict[str, Any] = {
    "logo": {"text": "xbarsim"},
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "show_toc_level": 1,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


class Written(SphinxDirective):
    """A directive that stands for reStructuredText made by code."""

    source: Any

    def run(self) -> list[nodes.Node]:
        """Parse what the code makes, headings included."""
        holder = nodes.section()
        holder.document = self.state.document
        lines = StringList(list(type(self).source()), source=f"<{self.name}>")
        nested_parse_with_titles(self.state, lines, holder)
        return holder.children


def write_reference(app: Sphinx) -> None:
    """Write the pages of the reference before they are looked for."""
    faces.write(ROOT / "docs" / "reference")
    app.known_names = faces.addresses()  # type: ignore[attr-defined]


def leave_foreign_names(app: Sphinx, doctree: nodes.document) -> None:
    """Take the links off foreign names in signatures: looking for each in vain is a tenth of the time of a build."""
    ours = {name.rpartition(".")[2] for name in app.known_names}  # type: ignore[attr-defined]
    for node in list(doctree.findall(pending_xref)):
        if node.get("refspecific") and node["reftarget"].rpartition(".")[2] not in ours:
            node.replace_self(node.children)


def find_name(app: Sphinx, env: Any, node: pending_xref, contnode: nodes.TextElement) -> nodes.Node | None:
    """Link a name by any other that it goes by: that of the module it stands in, or of the face of the project."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    known: dict[str, str] = app.known_names  # type: ignore[attr-defined]
    owner, member = target, ""
    while owner not in known and "." in owner:
        owner, _, last = owner.rpartition(".")
        member = f".{last}{member}"
    if owner not in known:
        return None
    node["reftarget"] = known[owner] + member
    domain = env.get_domain("py")
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node.get("reftype", "obj"), node["reftarget"], node, contnode
    )


def setup(app: Sphinx) -> None:
    """Add what this site has of its own."""
    app.add_html_math_renderer("mathml", (formulas.inline, None), (formulas.block, None))
    for name, source in (("parameters", parameters.text), ("commands", commands.text)):
        app.add_directive(name, type(name, (Written,), {"source": staticmethod(source)}))
    # numpydoc compiles its template anew for every docstring, a tenth of the time of a build: here once.
    templates = SandboxedEnvironment(loader=FileSystemLoader(Path(docscrape_sphinx.__file__).parent / "templates"))
    docscrape_sphinx.SandboxedEnvironment = lambda loader: templates
    app.connect("builder-inited", write_reference)
    app.connect("doctree-read", leave_foreign_names)
    app.connect("missing-reference", find_name)
