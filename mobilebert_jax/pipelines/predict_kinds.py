"""The kinds of predictions: their inputs, options and results."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from mobilebert_jax.config import run as run_config
from mobilebert_jax.config import task_options
from mobilebert_jax.config.command_line import Flag, Given
from mobilebert_jax.config.flags import HUB, LETTERS
from mobilebert_jax.pipelines.predict_inputs import Form
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

Fields = Mapping[str, Any]
Result = dict[str, Any]
_POSITIVE = {'at_least': 1}


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of prediction.

  Attributes:
    pipeline: a name in `mobilebert_jax.pipelines.PIPELINES`.
    help: what it does, in a line.
    texts: what the positional arguments are, for --help.
    form: the fields of an input.
    options: its own flags.
    run: `run(pipeline, inputs, flags)` gives a result for each input.
    hidden: fields of the input that are too long to be repeated beside the
      result.
  """

  pipeline: str
  help: str
  texts: str
  form: Form
  options: Sequence[Flag]
  run: Callable[[Any, Sequence[Fields], Given], list[Result]]
  hidden: tuple[str, ...] = ()


_TRUNCATE = Flag(
  'truncate',
  'cut texts that are longer than the model takes; without, they are an error',
  bool,
  False,
)
_FILL_MASK = (
  Flag('top_k', 'guesses for each mask', int, 5, value='N', limits=_POSITIVE),
  Flag(
    'targets',
    'words to choose from, separated by commas',
    otherwise='all words',
    value='A,B,...',
  ),
  _TRUNCATE,
)
_CLASSIFY = (
  Flag(
    'top_k',
    "labels, best first, or 'all'",
    int,
    otherwise='the best one; for a model of several labels at once all',
    value='N',
    limits=_POSITIVE,
    words={'all': None},
  ),
  Flag(
    'pair',
    'the two TEXTs are one input, such as premise and hypothesis',
    bool,
    False,
  ),
  _TRUNCATE,
)
_TAG = (
  Flag(
    'aggregation',
    "tokens as they are ('none'), neighbours joined ('simple'), or whole "
    'words, with the label of their first token, of the average of their '
    'scores or of the largest',
    Literal['none', 'simple', 'first', 'average', 'max'],
    'first',
  ),
  _TRUNCATE,
)
_ANSWER = (
  Flag(
    'top_k', 'answers for each question', int, 1, value='N', limits=_POSITIVE
  ),
  Flag(
    'max_answer_length',
    'tokens of an answer',
    int,
    otherwise='what the model was trained with, or 15',
    value='N',
    limits=_POSITIVE,
  ),
  Flag(
    'may_be_unanswerable',
    'the empty answer is an answer, too (SQuAD 2.0); as it is for a run that '
    'learnt from such questions',
    bool,
    False,
  ),
)


def _fill_mask(
  pipe: Any, items: Sequence[Fields], flags: Given
) -> list[Result]:
  targets = None
  if flags['targets'] is not None:
    targets = [word.strip() for word in flags['targets'].split(',')]
  result = pipe(
    [item['text'] for item in items],
    targets=targets,
    top_k=flags['top_k'],
    truncation=flags['truncate'],
  )
  result = [result] if len(items) == 1 else result
  # One list for each mask, also where there is one mask.
  return [
    {'masks': [masks] if isinstance(masks[0], dict) else masks}
    for masks in result
  ]


def _classify(pipe: Any, items: Sequence[Fields], flags: Given) -> list[Result]:
  texts = [{k: v for k, v in item.items() if k != 'id'} for item in items]
  is_multi = pipe.config.problem_type == 'multi_label_classification'
  if 'top_k' in flags.named or is_multi:
    result = pipe(texts, top_k=flags['top_k'], truncation=flags['truncate'])
    return [{'labels': labels} for labels in result]
  return pipe(texts, truncation=flags['truncate'])


def _tag(pipe: Any, items: Sequence[Fields], flags: Given) -> list[Result]:
  result = pipe(
    [item['text'] for item in items],
    flags['aggregation'],
    truncation=flags['truncate'],
  )
  return [{'entities': entities} for entities in result]


def _answer(pipe: Any, items: Sequence[Fields], flags: Given) -> list[Result]:
  result = pipe(
    list(items),
    top_k=flags['top_k'],
    max_answer_len=flags['max_answer_length'],
    handle_impossible_answer=(
      flags['may_be_unanswerable']
      if 'may_be_unanswerable' in flags.named
      else None
    ),
  )
  result = [result] if len(items) == 1 else result
  listed = [[one] if isinstance(one, dict) else one for one in result]
  if flags['top_k'] > 1:
    return [{'answers': answers} for answers in listed]
  return [answers[0] for answers in listed]


def _choose(pipe: Any, items: Sequence[Fields], flags: Given) -> list[Result]:
  return pipe(list(items), truncation=flags['truncate'])


KINDS = {
  'fill-mask': Kind(
    'fill-mask', 'guess the words behind [MASK]', 'texts with [MASK]',
    Form(('text',)), _FILL_MASK, _fill_mask,
  ),
  'classify': Kind(
    'text-classification', 'label texts, or pairs of texts; or give a number',
    'texts', Form(('text',), ('text_pair',)), _CLASSIFY, _classify,
  ),
  'tag': Kind(
    'token-classification', 'find names and other tagged words', 'texts',
    Form(('text',)), _TAG, _tag,
  ),
  'answer': Kind(
    'question-answering', 'find the answer to a question in a text',
    'the question and the text with the answer',
    Form(('question', 'context')), _ANSWER, _answer, ('context',),
  ),
  'choose': Kind(
    'multiple-choice', 'choose among several answers or endings',
    'the question and its choices',
    Form(('question', 'choices'), lists=('choices',)), (_TRUNCATE,), _choose,
    ('choices',),
  ),
}  # fmt: skip


# The flags that say which model to use.
FLAGS = (
  Flag(
    'model',
    'a transformers directory, the workdir of a run, or a hub name',
    value='DIR_OR_NAME',
    is_required=True,
  ),
  Flag(
    'tokenizer',
    'another tokenizer',
    otherwise="the model's own",
    value='DIR_OR_NAME',
  ),
  *LETTERS,
  Flag(
    'dtype',
    'type of the computation',
    Literal['float32', 'bfloat16'],
    'float32',
  ),
  *HUB,
)


# The model's class -> the kind that it is for.
_KIND_OF = {
  'MobileBertForMaskedLM': 'fill-mask',
  'MobileBertForPreTraining': 'fill-mask',
  'MobileBertForSequenceClassification': 'classify',
  'MobileBertForTokenClassification': 'tag',
  'MobileBertForQuestionAnswering': 'answer',
  'MobileBertForMultipleChoice': 'choose',
}
# The columns with the texts in GLUE's files.
_SENTENCES = ('sentence1', 'sentence2')
_OFFICIAL_COLUMNS = {
  'cola': ('sentence',),
  'sst2': ('sentence',),
  'mrpc': ('#1 String', '#2 String'),
  'stsb': _SENTENCES,
  'qqp': ('question1', 'question2'),
  'mnli': _SENTENCES,
  'qnli': ('question', 'sentence'),
  'rte': _SENTENCES,
  'wnli': _SENTENCES,
}
# Field -> the options of a task that name its columns.
_COLUMN_OPTIONS = {
  'text': ('text_column',),
  'text_pair': ('pair_column',),
  'question': ('question_column',),
  'context': ('context_column',),
  'choices': ('choice_columns', 'choices_column'),
  'id': ('id_column',),
}


def kind_of(model: str) -> str | None:
  """Returns the kind that a directory's model is for; None: it does not tell.

  Args:
    model: a transformers directory or the workdir of a run.
  """
  path = files.path(model)
  for config in (path / 'model_config.json', path / 'config.json'):
    try:
      names = json.loads(config.read_text(encoding='utf-8'))['architectures']
      return _KIND_OF.get(names[0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
      continue
  return None


def columns_of(kind: Kind, model: str) -> dict[str, tuple[str, ...]]:
  """Returns the columns that a run's model learnt from, by field.

  Args:
    kind: whose fields.
    model: what --model says; {} for one that is of no run.
  """
  path = files.path(model)
  place = path.parent if path.name == 'model' else path
  if not (place / 'model_config.json').is_file():
    return {}
  try:
    text = (place / 'config.json').read_text(encoding='utf-8')
    config = run_config.from_json(text)
    options = task_options.make(config.task, config.options)
  except (OSError, UnicodeDecodeError, InputError):
    # What cannot be read tells nothing; loading the model says what is wrong.
    return {}
  columns: dict[str, tuple[str, ...]] = {}
  for field in (*kind.form.fields, 'id'):
    for name in _COLUMN_OPTIONS.get(field, ()):
      value = getattr(options, name, None)
      if value and field not in columns:
        columns[field] = (value,) if isinstance(value, str) else tuple(value)
  table = _OFFICIAL_COLUMNS.get(config.task)
  if table is not None and kind.pipeline == 'text-classification':
    columns |= dict(zip(('text', 'text_pair'), ((name,) for name in table)))
  return columns


def load(name: str, flags: Given) -> Any:
  """The pipeline `name` with the model that the flags say.

  Raises:
    InputError: there is none, or it was not trained for this.
  """
  # Here, so that --help and wrong flags do not wait for jax.
  import jax
  import jax.numpy as jnp

  from mobilebert_jax.convert.pretrained import load_pretrained
  from mobilebert_jax.pipelines import PIPELINES, pipeline
  from mobilebert_jax.pipelines.factory import check_vocabulary
  from mobilebert_jax.tokenizer import MobileBertTokenizerFast
  from mobilebert_jax.training.workdir import best_model

  source = best_model(flags['model'])
  options = flags.of(HUB)
  model_class = PIPELINES[name].model_class
  try:
    loaded = load_pretrained(
      model_class, source, dtype=flags['dtype'], **options
    )
  except InputError as error:
    if source in str(error):
      raise
    raise InputError(
      f'{source} is no model for {flags.command}: {error}'
    ) from None
  model, params, report = loaded
  if report.newly_initialised:
    raise InputError(
      f'{source} has no weights for {", ".join(report.newly_initialised)}; '
      f'{flags.command} needs a model that was fine-tuned for it.'
    )
  tokenizer = MobileBertTokenizerFast.from_pretrained(
    flags['tokenizer'] or source, **options, **flags.of(LETTERS)
  )
  pipe = pipeline(
    name,
    (model, jax.tree.map(jnp.asarray, params)),
    tokenizer,
    batch_size=flags['batch_size'],
  )
  if flags['tokenizer'] not in (None, source, flags['model']):
    check_vocabulary(tokenizer, source, **options)
  return pipe
