"""How autodoc shows this project's docstrings and signatures."""

import dataclasses
import inspect
import re
from typing import Any

import flax.linen as nn

_CODE = re.compile(r'(?<!`)`([^`\n]+)`(?!`)(?=(\w?))')
_FENCE = re.compile(r'( *)```(\w*)$')


def convert(lines: list[str]) -> list[str]:
  """Docstrings are Markdown: makes their code into reStructuredText."""
  out: list[str] = []
  inside = None
  for line in lines:
    fence = _FENCE.match(line)
    if fence and inside is None:
      inside = fence[1]
      out += [f'{inside}.. code-block:: {fence[2] or "text"}', '']
    elif fence:
      inside = None
      out.append('')
    elif inside is not None:
      out.append(f'  {line}')
    else:
      out.append(_CODE.sub(_literal, line))
  return out


def module_signature(kind: type[nn.Module]) -> str:
  """The fields of a Linen module, without those that flax adds."""
  shown = []
  for field in dataclasses.fields(kind):
    if field.name not in ('parent', 'name'):
      text = f'{field.name}: {inspect.formatannotation(field.type)}'
      if field.default is not dataclasses.MISSING:
        text += f' = {_short(field.default)}'
      shown.append(re.sub(r'mobilebert_jax\.[\w.]+\.', '', text))
  return f'({", ".join(shown)})'


def _literal(found: re.Match) -> str:
  # An escaped space ends the literal where a letter follows: `Term`s.
  return f'``{found[1]}``' + ('\\ ' if found[2] else '')


def _short(value: Any) -> str:
  is_plain = not dataclasses.is_dataclass(value)
  return repr(value) if is_plain else f'{type(value).__name__}()'


def _docstring(app, what, name, obj, options, lines):
  del app, what, name, obj, options
  lines[:] = convert(lines)


def _signature(app, what, name, obj, options, signature, returned):
  del app, name, options, signature
  if what == 'class' and issubclass(obj, nn.Module):
    return module_signature(obj), returned
  return None


def setup(app):
  """Docstrings are converted before napoleon reads their sections."""
  app.connect('autodoc-process-docstring', _docstring, priority=400)
  app.connect('autodoc-process-signature', _signature)
  return {'parallel_read_safe': True}
