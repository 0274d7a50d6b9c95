"""Model cards: the `README.md` beside a model, as the hub reads and shows it.

`card` turns what is known of a model into text; the same summary gives the same
bytes. A card names no directory of the machine that made it, no time and no
user.
"""

import dataclasses
import importlib.metadata
import math
import platform
import pprint
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.config import fields, taken_layers, task_options
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.reporting.markdown import escape, table
from mobilebert_jax.runtime import hub
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

NAME = 'README.md'
# What a reader replaces by the directory or the hub name.
PLACEHOLDER = 'path/to/model'

# Head -> the hub's name for what it is used for, and transformers' Auto class.
_HEADS: Mapping[str, tuple[str | None, str]] = {
  'MobileBertModel': ('feature-extraction', 'AutoModel'),
  'MobileBertForPreTraining': ('fill-mask', 'AutoModelForPreTraining'),
  'MobileBertForMaskedLM': ('fill-mask', 'AutoModelForMaskedLM'),
  'MobileBertForNextSentencePrediction': (
    None,
    'AutoModelForNextSentencePrediction',
  ),
  'MobileBertForSequenceClassification': (
    'text-classification',
    'AutoModelForSequenceClassification',
  ),
  'MobileBertForTokenClassification': (
    'token-classification',
    'AutoModelForTokenClassification',
  ),
  'MobileBertForQuestionAnswering': (
    'question-answering',
    'AutoModelForQuestionAnswering',
  ),
  'MobileBertForMultipleChoice': (
    'multiple-choice',
    'AutoModelForMultipleChoice',
  ),
}
# What a pipeline is called with in the example.
_CALLS: Mapping[str, str] = {
  'feature-extraction': "'A sentence.'",
  'fill-mask': "'Paris is the [MASK] of France.'",
  'text-classification': "'A sentence.'",
  'token-classification': "'Anna lives in Paris.'",
  'question-answering': (
    "question='Where does Anna live?', context='Anna lives in Paris.'"
  ),
  'multiple-choice': "'Where does Anna live?', ['in Paris', 'in 1999']",
}
# Task -> data set on the hub, its config there, and its name.
_DATASETS: Mapping[str, tuple[str, str | None, str]] = {
  **{
    task: ('nyu-mll/glue', task, f'GLUE {name}')
    for task, name in (
      ('cola', 'CoLA'), ('sst2', 'SST-2'), ('mrpc', 'MRPC'),
      ('stsb', 'STS-B'), ('qqp', 'QQP'), ('mnli', 'MNLI'), ('qnli', 'QNLI'),
      ('rte', 'RTE'), ('wnli', 'WNLI'),
    )
  },
  'squad_v1': ('rajpurkar/squad', None, 'SQuAD 1.1'),
  'squad_v2': ('rajpurkar/squad_v2', None, 'SQuAD 2.0'),
  'conll2003': ('eriktks/conll2003', None, 'CoNLL-2003'),
  'wnut17': ('leondz/wnut_17', None, 'WNUT-17'),
  'swag': ('allenai/swag', None, 'SWAG'),
  'commonsenseqa': ('tau/commonsense_qa', None, 'CommonsenseQA'),
  'race': ('ehovy/race', None, 'RACE'),
}  # fmt: skip
# Score -> the hub's name of the metric; others keep theirs.
_METRICS: Mapping[str, str] = {
  'exact': 'exact_match',
  'matthews': 'matthews_correlation',
  'pearson': 'pearsonr',
  'spearman': 'spearmanr',
}
# Settings that say where a run computes and finds things, not what it learns.
_PLACES = frozenset({
  'cache_dir', 'compilation_cache_dir', 'local_files_only', 'profile', 'token',
  'wandb',
})  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ModelSummary:
  """What a card says; everything but the head may be unknown.

  Attributes:
    head: name of the model's class.
    max_length: tokens of the longest text that it takes; None: not known.
    lower_case: whether the tokenizer lower-cases; None: not known.
    labels: names of the classes.
    usage: `task_specific_params` of the config.
    config: the run that made the model.
    results: what `results.json` holds, as far as the run has come.
    about: rows of a table about the run: what, and its value.
    base_model: the hub name of what it was trained from.
    language: its code, such as 'en'.
    license: the hub's name of a licence.
    name: how the examples call the model.
    versions: package -> version, of those that made it.
  """

  head: str
  max_length: int | None = None
  lower_case: bool | None = None
  labels: tuple[str, ...] = ()
  usage: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  config: TrainConfig | None = None
  results: Mapping[str, Any] | None = None
  about: Sequence[tuple[str, str]] = ()
  base_model: str | None = None
  language: str | None = None
  license: str | None = None
  name: str = PLACEHOLDER
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def task(self) -> str | None:
    """The run's task."""
    return self.config.task if self.config else None


def summary_of(
  head: str, config: MobileBertConfig, tokenizer: MobileBertTokenizerFast | None
) -> ModelSummary:
  """Returns what a model's own files say, where no run is known.

  Args:
    head: name of the model's class.
    config: its config.
    tokenizer: its tokenizer; None: there is none.
  """
  longest, lower_case = config.max_position_embeddings, None
  if tokenizer is not None:
    longest = min(longest, tokenizer.model_max_length)
    lower_case = tokenizer.do_lower_case
  labels = tuple(config.id2label[i] for i in range(config.num_labels))
  is_named = any(name != f'LABEL_{i}' for i, name in enumerate(labels))
  return ModelSummary(
    head=head,
    max_length=longest,
    lower_case=lower_case,
    labels=labels if is_named else (),
    usage=config.task_specific_params or {},
  )


def card(summary: ModelSummary) -> str:
  """Returns the text of a card: the hub's metadata, then prose."""
  title = f'MobileBERT, {summary.task}' if summary.task else 'MobileBERT'
  lines = [
    '---',
    _metadata(summary, title).rstrip(),
    '---',
    '',
    f'# {escape(title)}',
    '',
    *_opening(summary),
    *_scores(summary),
    *_use(summary),
    *_training(summary),
    *_limits(summary),
  ]
  return '\n'.join(lines).rstrip() + '\n'


def with_section(text: str, heading: str, lines: Sequence[str]) -> str:
  """Returns a card with one more section, at its end.

  Args:
    text: the card; a section of the same heading is replaced.
    heading: its heading.
    lines: Markdown.
  """
  kept, is_replaced, is_code = [], False, False
  for line in text.splitlines():
    is_code ^= line.startswith('```')
    if line.startswith(('# ', '## ')) and not is_code:
      is_replaced = line == f'## {heading}'
    if not is_replaced:
      kept.append(line)
  body = '\n'.join(kept).rstrip()
  section = '\n'.join([f'## {heading}', '', *lines]).rstrip()
  return f'{body}\n\n{section}\n'.lstrip('\n')


def installed_versions() -> dict[str, str]:
  """Returns the versions of what makes a model: jax, flax, this, Python."""
  names = ('mobilebert_jax', 'jax', 'flax')
  versions = {name: importlib.metadata.version(name) for name in names}
  return versions | {'Python': platform.python_version()}


def changed_settings(config: TrainConfig) -> dict[str, Any]:
  """Returns the settings of a run that differ from their defaults.

  Of a path only its last part is kept, and nothing of where the run computed.
  """
  changed = _changed(config)
  known = fields.settings(task_options.OPTIONS[config.task])
  options = {
    name: value
    for name, value in changed.pop('options', {}).items()
    if value != known[name].default
  }
  return changed | ({'options': options} if options else {})


def _changed(group: Any) -> dict[str, Any]:
  changed: dict[str, Any] = {}
  for name, setting in fields.settings(type(group)).items():
    value = getattr(group, name)
    if name in _PLACES or value == setting.default:
      continue
    if dataclasses.is_dataclass(value):
      value = _changed(value)
      if not value:
        continue
    changed[name] = _public(value)
  return changed


def _public(value: Any) -> Any:
  """Returns a value as plain Python, without directories in it."""
  if isinstance(value, Mapping):
    return {key: _public(item) for key, item in value.items()}
  if isinstance(value, tuple):
    return tuple(map(_public, value))
  return last_part(value) if isinstance(value, str) else value


def last_part(name: str) -> str:
  """Returns the last part of a path; a hub name or another text as it is."""
  if '/' not in name or hub.is_hub_name(name):
    return name
  part = name.rstrip('/').rpartition('/')[2]
  # Other texts have slashes, too, such as one that separates labels.
  return part if any(map(str.isalnum, part)) else name


def _metadata(summary: ModelSummary, title: str) -> str:
  tag, _ = _HEADS.get(summary.head, (None, ''))
  dataset = _DATASETS.get(summary.task or '')
  scores = list(_metric_values(summary))
  return hub.card_metadata(
    {
      'language': summary.language or ('en' if dataset else None),
      'license': summary.license,
      # Of the weights: what the hub offers for loading them.
      'library_name': 'transformers',
      'tags': ['mobilebert', 'jax', 'mobilebert_jax'],
      'pipeline_tag': tag,
      'base_model': summary.base_model,
      'datasets': [dataset[0]] if dataset else None,
      'metrics': list(dict.fromkeys(kind for kind, *_ in scores)) or None,
      'model_name': title if scores else None,
    },
    [_result(summary, tag, *score) for score in scores],
  )


def _metric_values(
  summary: ModelSummary,
) -> Iterator[tuple[str, str, str, float]]:
  """Yields the hub's metric, the score's name, its split and its value."""
  best = (summary.results or {}).get('best', {})
  for key, value in best.items():
    split, slash, name = key.partition('/')
    if not slash or name == 'loss' or name.endswith('_thresh'):
      continue
    if math.isfinite(value):
      yield _METRICS.get(name, name), name, split, float(value)


def _result(
  summary: ModelSummary,
  tag: str | None,
  metric: str,
  name: str,
  split: str,
  value: float,
) -> dict[str, Any]:
  known = _DATASETS.get(summary.task or '')
  dataset, subset, title = known or (
    # A type is needed; this one is no name of a data set on the hub.
    summary.task, None, _data_name(summary),
  )  # fmt: skip
  return {
    'task_type': tag or 'text-classification',
    'dataset_type': dataset,
    'dataset_name': title,
    'dataset_config': subset,
    'dataset_split': split,
    'metric_type': metric,
    'metric_name': name,
    'metric_value': value,
  }


def _data_name(summary: ModelSummary) -> str:
  assert summary.config is not None
  path = summary.config.data.path
  return last_part(path) if path else summary.config.task


def _opening(summary: ModelSummary) -> Iterator[str]:
  if summary.config is None:
    yield f'MobileBERT as `{summary.head}`.'
  else:
    known = _DATASETS.get(summary.config.task)
    data = known[2] if known else _data_name(summary)
    how = 'trained from scratch'
    if summary.config.init != 'scratch':
      source = escape(last_part(summary.config.init))
      begun_with = taken_layers.describe(summary.config.init_layers, source)
      how = f'trained from {begun_with}'
    yield (
      f'MobileBERT as `{summary.head}`, {how} on {escape(data)} with '
      'mobilebert_jax.'
    )
  yield ''
  if summary.labels:
    names = ', '.join(f'{i}: {escape(n)}' for i, n in enumerate(summary.labels))
    yield f'Labels: {names}.'
    yield ''


def _scores(summary: ModelSummary) -> Iterator[str]:
  results = summary.results
  if not results:
    return
  stages = [name for name in ('first', 'best', 'final') if results.get(name)]
  titles = {'first': 'before', 'best': 'these weights', 'final': 'last step'}
  names = [name for name in results['best'] if name != 'step']
  header = ['score'] + [
    f'{titles[stage]} (step {results[stage]["step"]:,})' for stage in stages
  ]
  yield '## Scores'
  yield ''
  yield from table(
    header,
    [
      [
        escape(name),
        *(
          f'{results[stage][name]:.4f}' if name in results[stage] else '-'
          for stage in stages
        ),
      ]
      for name in names
    ],
    'l' + 'r' * len(stages),
  )
  yield ''
  yield (
    f'The weights were chosen by {escape(results["primary_metric"])}, so on '
    'other texts of the same kind it may be a little lower.'
  )
  yield ''


def _use(summary: ModelSummary) -> Iterator[str]:
  tag, auto = _HEADS.get(summary.head, (None, 'AutoModel'))
  yield '## Use'
  yield ''
  yield 'With mobilebert_jax, from a directory or by the name on the hub:'
  yield ''
  yield '```python'
  if tag in _CALLS and tag is not None:
    yield 'from mobilebert_jax.pipelines import pipeline'
    yield ''
    yield f'pipe = pipeline({tag!r}, {summary.name!r})'
    yield f'print(pipe({_CALLS[tag]}))'
  else:
    yield 'import mobilebert_jax as mb'
    yield ''
    arguments = f'mb.{summary.head}, {summary.name!r}'
    yield f'model, params = mb.from_pretrained({arguments})'
  yield '```'
  yield ''
  yield 'With transformers:'
  yield ''
  yield '```python'
  yield f'from transformers import {auto}, AutoTokenizer'
  yield ''
  yield f'tokenizer = AutoTokenizer.from_pretrained({summary.name!r})'
  yield f'model = {auto}.from_pretrained({summary.name!r})'
  yield '```'
  yield ''
  for name, values in summary.usage.items():
    if not isinstance(values, Mapping):
      continue
    yield f'For {escape(name)}, `task_specific_params` of `config.json` has:'
    yield ''
    yield from table(
      ('setting', 'value'),
      [(escape(key), escape(str(value))) for key, value in values.items()],
    )
    yield ''


def _training(summary: ModelSummary) -> Iterator[str]:
  if summary.config is None and not summary.versions:
    return
  yield '## Training'
  yield ''
  if summary.about:
    yield from table(
      ('what', ''), [(what, escape(value)) for what, value in summary.about]
    )
    yield ''
  if summary.config is not None:
    yield 'The config, as `config.py`; names of directories are shortened:'
    yield ''
    yield '```python'
    yield from _config_file(summary.config)
    yield '```'
    yield ''
    yield '```'
    yield 'python train.py --config=config.py --workdir=run'
    yield '```'
    yield ''
  if summary.versions:
    listed = ', '.join(
      f'{name} {version}' for name, version in summary.versions.items()
    )
    yield f'Made with {escape(listed)}.'
    yield ''


def _config_file(config: TrainConfig) -> Iterator[str]:
  yield 'from mobilebert_jax import config'
  yield ''
  yield ''
  yield "def get_config(variant=''):"
  yield '  return config.config_dict('
  for name, value in changed_settings(config).items():
    text = pprint.pformat(value, width=70 - len(name), sort_dicts=False)
    first, *rest = text.splitlines()
    pad = ' ' * (len(name) + 5)
    yield from [f'    {name}={first}', *(pad + line for line in rest)][:-1]
    last = f'    {name}={first}' if not rest else pad + rest[-1]
    yield f'{last},'
  yield '  )'


def _limits(summary: ModelSummary) -> Iterator[str]:
  yield '## Limits'
  yield ''
  if summary.max_length is not None:
    yield (
      f'- It takes texts of at most {summary.max_length} tokens, special '
      'tokens included (`model_max_length` of the tokenizer); longer ones are '
      'to be cut or split.'
    )
  if summary.lower_case is not None:
    yield (
      '- The tokenizer lower-cases: upper case makes no difference.'
      if summary.lower_case
      else '- The tokenizer keeps upper and lower case apart.'
    )
  yield (
    '- Padding changes the outputs a little, because the input of a token is '
    'made of its own embedding and those of its two neighbours: the last token '
    "sees the first `[PAD]`. mobilebert_jax's pipelines give the results of "
    'the unpadded text.'
  )
  yield (
    '- Hidden values can be beyond what float16 holds (65,504); use float32 or '
    'bfloat16.'
  )
  yield (
    '- It has the errors and the bias of its training data; try it on your '
    'texts before you rely on it.'
  )
