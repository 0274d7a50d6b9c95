"""Reads the README and the site's pages: examples, commands, links."""

import doctest
import itertools
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

import mobilebert_jax as mb
from mobilebert_jax.models import abstract_params

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ('README.md', *sorted(
  str(path.relative_to(ROOT)) for path in (ROOT / 'docs').rglob('*.md')
))  # fmt: skip

_FENCE = re.compile(r'^(`{3,})(\w*)\n(.*?)^\1$', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
_ERROR = re.compile('error: (.*)')
_HEADING = re.compile(r'^#+ (.*)$', re.MULTILINE)

# What the examples name and nobody has at hand: a small random model each.
_MODELS = {
  'google/mobilebert-uncased': (mb.MobileBertForMaskedLM, {}),
  'runs/quickstart/model': (
    mb.MobileBertForSequenceClassification,
    {'id2label': {0: 'entailment', 1: 'neutral', 2: 'contradiction'}},
  ),
  'runs/glue_mnli/model': (
    mb.MobileBertForSequenceClassification,
    {'id2label': {0: 'entailment', 1: 'neutral', 2: 'contradiction'}},
  ),
  'runs/wnut17/model': (
    mb.MobileBertForTokenClassification,
    {'id2label': {0: 'O', 1: 'B-person', 2: 'I-person'}},
  ),
  'runs/squad_v2/model': (mb.MobileBertForQuestionAnswering, {}),
  'runs/swag/model': (mb.MobileBertForMultipleChoice, {}),
}
_WORDS = (
  '[PAD] [UNK] [CLS] [SEP] [MASK] paris is the capital north of france . ? '
  'anna lives stays now in where does live this example city money'
).split()


class Command(NamedTuple):
  """A command that a page shows.

  Attributes:
    page: where it stands.
    program: 'train.py', 'eval.py' or a module's name.
    arguments: all that follows.
    error: what the page says that it prints, where it is wrong on purpose.
  """

  page: str
  program: str
  arguments: tuple[str, ...]
  error: str | None = None


def read(page: str) -> str:
  """The text of a page."""
  return (ROOT / page).read_text(encoding='utf-8')


def blocks(page: str) -> Iterator[tuple[str, str, int]]:
  """Language, text and first line of each fenced block."""
  text = read(page)
  for found in _FENCE.finditer(text):
    yield found[2], found[3], text[: found.start()].count('\n') + 1


def examples(page: str) -> doctest.DocTest:
  """All that a page types into Python, as one test with one namespace."""
  parser = doctest.DocTestParser()
  found = []
  for language, text, line in blocks(page):
    if language == 'pycon':
      for example in parser.get_examples(text, page):
        example.lineno += line
        found.append(example)
  return doctest.DocTest(found, {}, page, page, 0, None)


def commands(page: str) -> Iterator[Command]:
  """The project's own commands in a page's fenced blocks."""
  for language, text, _ in blocks(page):
    if language not in ('', 'console'):
      continue
    lines = text.replace('\\\n', ' ').split('\n')
    for line, after in itertools.pairwise(lines):
      error = _ERROR.fullmatch(after)
      for command in _commands(page, line):
        yield command._replace(error=error[1] if error else None)


def _commands(page: str, line: str) -> Iterator[Command]:
  for part in re.split(r'&&|&>|\||2>|>|;', line):
    if 'python ' not in part:
      continue
    part = part[part.index('python ') :].strip()
    # A quotation mark may have been opened before, by `--command='`.
    part = part.removesuffix("'") if part.count("'") % 2 else part
    words = shlex.split(part, comments=True)[1:]
    if words[0] == '-m' and words[1].startswith('mobilebert_jax.'):
      yield Command(page, words[1], tuple(words[2:]))
    elif words[0] in ('train.py', 'eval.py'):
      yield Command(page, words[0], tuple(words[1:]))


def links(page: str) -> list[str]:
  """The targets of a page's links and pictures, outside of fenced blocks."""
  return _LINK.findall(_FENCE.sub('', read(page)))


def anchors(page: str) -> set[str]:
  """What a link behind '#' may name: GitHub's and MyST's headings."""
  return {
    re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
    for heading in _HEADING.findall(_FENCE.sub('', read(page)))
  }


def write_models(text: str, directory: pathlib.Path):
  """Writes the stand-ins for the models that a text names."""
  # Drawn by NumPy: nothing is compiled.
  rng = np.random.default_rng(0)

  def draw(array: jax.ShapeDtypeStruct) -> np.ndarray:
    return rng.normal(0, 0.1, array.shape).astype(array.dtype)

  for name, (kind, options) in _MODELS.items():
    if name in text:
      config = mb.MobileBertConfig(
        vocab_size=len(_WORDS), hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_feedforward_networks=1,
        intermediate_size=16, embedding_size=16,
        intra_bottleneck_size=16, max_position_embeddings=64, **options,
      )  # fmt: skip
      model = kind(config)
      params = jax.tree.map(draw, abstract_params(model))
      tokenizer = mb.MobileBertTokenizerFast(_WORDS, model_max_length=64)
      mb.save_pretrained(directory / name, model, params, tokenizer)
