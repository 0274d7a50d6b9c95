"""Sphinx's settings for the site.

  pip install -e '.[docs]'
  sphinx-build -W --keep-going docs build/site

Needs no network: objects of other projects are named, not linked. Links to
other sites are not followed either, here and by `-b linkcheck`, because
continuous integration reaches package registries alone.
"""

import importlib.metadata
import pathlib
import sys
import typing

_HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE / '_extensions'), str(_HERE.parent)]
# jaxtyping then calls its types `Float[Array, 'B S']`, without a module. Read
# when it is imported.
typing.GENERATING_DOCUMENTATION = 'mobilebert_jax'

import folders  # noqa: E402

folders.draw(_HERE / 'images' / 'folders.svg')

project = 'mobilebert_jax'
author = 'the mobilebert_jax developers'
version = release = importlib.metadata.version(project)
html_title = project

extensions = [
  'myst_parser',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
  'sphinx_copybutton',
  'sphinx_design',
  'docstrings',
  'generated',
]
exclude_patterns = ['_extensions']
root_doc = 'index'
nitpicky = True
# What is not documented here, because it is another project's or internal.
nitpick_ignore_regex = [
  (r'py:.*', r'(jax|flax|numpy|np|os|pathlib|tokenizers|collections)\..*'),
  (r'py:.*', r'(Array|ndarray|Params|Path|Bool|Float|Int|Num)'),
  (
    r'py:.*',
    r'mobilebert_jax\..*\.(CharSpan|TokenSpan|LoadResult|TrainConfig)',
  ),
  # Sequence[tuple[str, str]] is cut at its comma.
  (r'py:.*', r'tuple\[str'),
  # The first word of a property's docstring, before its colon.
  (r'py:.*', 'True'),
]

myst_enable_extensions = ['colon_fence', 'deflist', 'attrs_block']
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
autodoc_typehints = 'signature'
maximum_signature_line_length = 72
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [
  ('Attributes', 'params_style'),
  ('Class attributes', 'params_style'),
]
toc_object_entries_show_parents = 'hide'

copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True
linkcheck_ignore = [r'https?://']

html_theme = 'sphinx_book_theme'
html_static_path = ['_static']
html_css_files = ['site.css']
html_theme_options = {
  'repository_url': 'https://github.com/mobilebert-jax/mobilebert_jax',
  'path_to_docs': 'docs',
  'use_repository_button': True,
  'use_issues_button': True,
  'use_edit_page_button': True,
  'show_toc_level': 2,
}
