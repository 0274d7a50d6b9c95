"""The tags that a task knows, and sentences checked against them."""

from collections.abc import Callable, Sequence

from mobilebert_jax.data.readers import iob
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.runtime.errors import InputError


def choose_labels(
  given: tuple[str, ...], training: Callable[[], Sequence[Sentence]]
) -> tuple[str, ...]:
  """The labels of a task: those that are given, or else the training data's.

  Args:
    given: `TaggingOptions.labels`.
    training: Gives the checked training sentences; not called if labels are
      given.

  Raises:
    InputError: As `check_labels`, or what `training` raises.
  """
  if not given:
    return labels_of(training())
  check_labels(given)
  return given


def check_labels(labels: Sequence[str]):
  """Checks `TaggingOptions.labels`.

  Raises:
    InputError: There is no O, a tag is given twice or is none, or a type has
      no B-.
  """
  where = 'config.options.labels'
  wrong = [label for label in labels if not iob.is_tag(label)]
  if wrong:
    raise InputError(f'{where} has {wrong[0]!r}; expected O, B-TYPE or I-TYPE.')
  twice = [label for label in labels if labels.count(label) > 1]
  if twice:
    raise InputError(f'{where} has {twice[0]!r} twice; give every tag once.')
  needed = {iob.OUTSIDE, *(f'B-{iob.type_of(x)}' for x in labels if x != 'O')}
  missing = sorted(needed - set(labels))
  if missing:
    raise InputError(
      f'{where} lacks {", ".join(missing)}; expected O and a B- for every '
      'type, because tags are learnt in IOB2.'
    )


def check_sentence(
  sentence: Sentence, scheme: iob.Scheme, labels: Sequence[str] | None
) -> Sentence:
  """Returns a sentence whose tags are tags, in the scheme, and known.

  Raises:
    InputError: They are not; the message names file and line.
  """
  tags = sentence.tags
  for word, tag in enumerate(tags):
    if not iob.is_tag(tag):
      raise InputError(
        f'{sentence.place(word)}: the tag is {tag!r}; expected O, B-TYPE or '
        'I-TYPE'
      )
  index = iob.violation(tags, scheme)
  if index is not None:
    other = 'IOB1' if scheme == 'IOB2' else 'IOB2'
    before = tags[index - 1] if index else 'the beginning of the sentence'
    raise InputError(
      f'{sentence.place(index)}: {tags[index]} after {before} is not {scheme}; '
      f'correct it, or set config.options.scheme={other} if the file is in '
      f'{other}'
    )
  for word, tag in enumerate(iob.to_iob2(tags)):
    if labels is not None and tag not in labels:
      raise InputError(
        f'{sentence.place(word)}: the tag {tags[word]} is unknown; the tags of '
        f'the training data (or config.options.labels) are {", ".join(labels)}'
      )
  return sentence


def labels_of(sentences: Sequence[Sentence]) -> tuple[str, ...]:
  """O, then B- and I- of each type that occurs, in alphabetical order."""
  kinds = {iob.type_of(tag) for s in sentences for tag in s.tags} - {''}
  return (
    iob.OUTSIDE,
    *(f'{prefix}-{kind}' for kind in sorted(kinds) for prefix in 'BI'),
  )
