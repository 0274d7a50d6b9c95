"""The kinds of predictions: their inputs, options and results."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mobilebert_jax.pipelines.predict_inputs import Form

Fields = Mapping[str, Any]
Result = dict[str, Any]
_ALL = 'all'


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of prediction.

  Attributes:
    pipeline: a name in `mobilebert_jax.pipelines.PIPELINES`.
    help: what it does, in a line.
    texts: what the positional arguments are, for --help.
    form: the fields of an input.
    options: adds its own flags to a parser.
    run: `run(pipeline, inputs, flags)` gives a result for each input.
    hidden: fields of the input that are too long to be repeated beside the
      result.
  """

  pipeline: str
  help: str
  texts: str
  form: Form
  options: Callable[[argparse.ArgumentParser], None]
  run: Callable[[Any, Sequence[Fields], argparse.Namespace], list[Result]]
  hidden: tuple[str, ...] = ()


def positive(text: str) -> int:
  """A flag's value that must be a positive whole number."""
  try:
    value = int(text)
  except ValueError:
    value = 0
  if value < 1:
    raise argparse.ArgumentTypeError(
      f'{text!r} must be a positive whole number'
    )
  return value


def _count_or_all(text: str) -> int | None:
  return None if text == _ALL else positive(text)


def _truncation(parser: argparse.ArgumentParser):
  parser.add_argument(
    '--truncate',
    action='store_true',
    help='cut texts that are longer than the model takes; without, they are '
    'an error',
  )


def _fill_mask_options(parser: argparse.ArgumentParser):
  parser.add_argument(
    '--top_k', '--top-k', type=positive, default=5,
    help='guesses for each mask (default: %(default)s)',
  )  # fmt: skip
  parser.add_argument(
    '--targets', help='words to choose from, separated by commas'
  )
  _truncation(parser)


def _fill_mask(
  pipe: Any, items: Sequence[Fields], flags: argparse.Namespace
) -> list[Result]:
  targets = None
  if flags.targets is not None:
    targets = [word.strip() for word in flags.targets.split(',')]
  found = pipe(
    [item['text'] for item in items],
    targets=targets,
    top_k=flags.top_k,
    truncation=flags.truncate,
  )
  found = [found] if len(items) == 1 else found
  # One list for each mask, also where there is one mask.
  return [
    {'masks': [masks] if isinstance(masks[0], dict) else masks}
    for masks in found
  ]


def _classify_options(parser: argparse.ArgumentParser):
  parser.add_argument(
    '--top_k', '--top-k', type=_count_or_all, default=argparse.SUPPRESS,
    help="labels, best first, or 'all' (default: the best one; for a model "
    'of several labels at once all)',
  )  # fmt: skip
  parser.add_argument(
    '--pair', action='store_true',
    help='the two TEXTs are one input, such as premise and hypothesis',
  )  # fmt: skip
  _truncation(parser)


def _classify(
  pipe: Any, items: Sequence[Fields], flags: argparse.Namespace
) -> list[Result]:
  texts = [{k: v for k, v in item.items() if k != 'id'} for item in items]
  is_multi = pipe.config.problem_type == 'multi_label_classification'
  if 'top_k' in flags or is_multi:
    top_k = getattr(flags, 'top_k', None)
    found = pipe(texts, top_k=top_k, truncation=flags.truncate)
    return [{'labels': labels} for labels in found]
  return pipe(texts, truncation=flags.truncate)


def _tag_options(parser: argparse.ArgumentParser):
  parser.add_argument(
    '--aggregation', choices=('none', 'simple', 'first', 'average', 'max'),
    default='first',
    help="tokens as they are ('none'), neighbours joined ('simple'), or whole "
    'words, with the label of their first token, of the average of their '
    'scores or of the largest (default: %(default)s)',
  )  # fmt: skip
  _truncation(parser)


def _tag(
  pipe: Any, items: Sequence[Fields], flags: argparse.Namespace
) -> list[Result]:
  found = pipe(
    [item['text'] for item in items],
    flags.aggregation,
    truncation=flags.truncate,
  )
  return [{'entities': entities} for entities in found]


def _answer_options(parser: argparse.ArgumentParser):
  parser.add_argument(
    '--top_k', '--top-k', type=positive, default=1,
    help='answers for each question (default: %(default)s)',
  )  # fmt: skip
  parser.add_argument(
    '--max_answer_length', '--max-answer-length', type=positive, default=15,
    help='tokens of an answer (default: %(default)s)',
  )  # fmt: skip
  parser.add_argument(
    '--may_be_unanswerable', '--may-be-unanswerable', action='store_true',
    help='the empty answer is an answer, too (SQuAD 2.0)',
  )  # fmt: skip


def _answer(
  pipe: Any, items: Sequence[Fields], flags: argparse.Namespace
) -> list[Result]:
  found = pipe(
    list(items),
    top_k=flags.top_k,
    max_answer_len=flags.max_answer_length,
    handle_impossible_answer=flags.may_be_unanswerable,
  )
  found = [found] if len(items) == 1 else found
  listed = [[one] if isinstance(one, dict) else one for one in found]
  if flags.top_k > 1:
    return [{'answers': answers} for answers in listed]
  none = {'score': 0.0, 'start': 0, 'end': 0, 'answer': ''}
  return [answers[0] if answers else none for answers in listed]


def _choose(
  pipe: Any, items: Sequence[Fields], flags: argparse.Namespace
) -> list[Result]:
  return pipe(list(items), truncation=flags.truncate)


KINDS = {
  'fill-mask': Kind(
    'fill-mask', 'guess the words behind [MASK]', 'texts with [MASK]',
    Form(('text',)), _fill_mask_options, _fill_mask,
  ),
  'classify': Kind(
    'text-classification', 'label texts, or pairs of texts; or give a number',
    'texts', Form(('text',), ('text_pair',)), _classify_options, _classify,
  ),
  'tag': Kind(
    'token-classification', 'find names and other tagged words', 'texts',
    Form(('text',)), _tag_options, _tag,
  ),
  'answer': Kind(
    'question-answering', 'find the answer to a question in a text',
    'the question and the text with the answer',
    Form(('question', 'context')), _answer_options, _answer, ('context',),
  ),
  'choose': Kind(
    'multiple-choice', 'choose among several answers or endings',
    'the question and its choices',
    Form(('question', 'choices'), lists=('choices',)), _truncation, _choose,
    ('choices',),
  ),
}  # fmt: skip
