"""The options of every task: what `config.options` may say.

`OPTIONS` names them by task; `tasks.TASKS` reads it, and so do the command line
and --help, which thereby load no task.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from mobilebert_jax.config import fields


@dataclasses.dataclass(frozen=True)
class NoOptions:
  """The options of a task that has none."""


@dataclasses.dataclass(frozen=True)
class SubmissionOptions:
  """The options of a benchmark whose test answers are not public."""

  predict_test: bool = fields.setting(
    True,
    help='read the splits without answers and write their predictions; '
    'False: their files need not be there',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanOptions:
  """How texts are cut and answers searched.

  The names and defaults are those of google-research's run_squad.
  """

  doc_stride: int = fields.setting(
    128,
    help='how many tokens of the text a window begins after the window '
    'before it',
    at_least=1,
  )
  max_query_length: int = fields.setting(
    64, help='tokens of a question; the rest is cut off', at_least=1
  )
  max_answer_length: int = fields.setting(
    30, help='tokens of the longest answer that is given', at_least=1
  )
  n_best: int = fields.setting(
    20, help='answers to each question in nbest_predictions.json', at_least=1
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NullSpanOptions(SpanOptions):
  """The same, where a text may not answer a question."""

  null_score_threshold: float | None = fields.setting(
    None,
    help='no answer is given where its score is more than this above that of '
    'the best answer; None: the threshold with the best F1 on the split that '
    'is evaluated, 0 where its answers are not known',
  )


@dataclasses.dataclass(frozen=True)
class TaggingOptions:
  """How words are tagged."""

  labels: tuple[str, ...] = fields.setting(
    (),
    help='the tags in IOB2, in the order of the logits; (): O, and B- and I- '
    'for each type of the training file, in alphabetical order',
  )
  scheme: Literal['auto', 'IOB2', 'IOB1', 'BIOES'] = fields.setting(
    'auto',
    help="how the data marks entities; 'auto': what most entities of the "
    'training data show. Scores are strict in this scheme, those of BIOES in '
    'IOB2, to which it is brought',
  )
  repair_tags: bool = fields.setting(
    True,
    help='a tag that the scheme forbids begins an entity, as conlleval reads '
    'it, and is counted; False: it is refused',
  )
  label_all_subtokens: bool = fields.setting(
    False,
    help='learn from all tokens of a word (B- becomes I- behind the first '
    'one), not from its first one alone. Predictions are always those of the '
    'first tokens',
  )
  stride: int = fields.setting(
    0,
    help='tokens that the parts of a sentence longer than `max_length` have '
    'in common',
    at_least=0,
  )


@dataclasses.dataclass(frozen=True)
class TextOptions:
  """What the user's text is.

  `data.path` is a text file or a directory of text files (*.txt, *.jsonl,
  both also gzipped).
  """

  train_file: str | None = fields.setting(
    None,
    help='a file or directory to learn from, relative to `config.data.path`; '
    'None: '
    'all of `config.data.path`',
  )
  validation_file: str | None = fields.setting(
    None,
    help='a file or directory to test with; it then is not learnt from. '
    'None: a part of the training text, see `validation_fraction`',
  )
  validation_fraction: float = fields.setting(
    0.05,
    help='share of the characters to hold out; see `documents.hold_out`',
    above=0,
    below=1,
  )
  documents: Literal['file', 'paragraph', 'line'] = fields.setting(
    'file',
    help="what a document is in *.txt: a 'file', a 'paragraph' (between "
    "blank lines), or a 'line'. In *.jsonl it is a line",
  )
  text_column: str = fields.setting(
    'text', help='the name of the text in *.jsonl'
  )


@dataclasses.dataclass(frozen=True)
class MaskedLmOptions(TextOptions):
  """`config.options` of masked_lm."""

  mask_probability: float = fields.setting(
    0.15, help='share of the tokens to predict', above=0, below=1
  )
  whole_word: bool = fields.setting(
    False, help='mask all pieces of a word together'
  )
  max_predictions_per_sequence: int | None = fields.setting(
    None, help='tokens to predict in one sequence at most', at_least=1
  )


@dataclasses.dataclass(frozen=True)
class NextSentenceOptions(TextOptions):
  """`config.options` of next_sentence."""

  documents: Literal['file', 'paragraph', 'line'] = fields.setting(
    'paragraph',
    help="as in `TextOptions`; 'paragraph' is BERT's own format: a blank "
    'line between documents',
  )
  sentences: Literal['lines', 'marks'] = fields.setting(
    'lines',
    help="what a sentence is: one of the 'lines' (BERT's format), or what a "
    "full stop, an exclamation or a question 'mark' ends",
  )
  sentences_per_segment: int = fields.setting(
    1, help='sentences in each of the two texts', at_least=1
  )
  seed: int = fields.setting(0, help='seed of the pairs', at_least=0)


@dataclasses.dataclass(frozen=True)
class PretrainingOptions(TextOptions):
  """`config.options` of pretraining.

  With records, `train_file` and `validation_file` name directories or files of
  records, and files that are of the second are not learnt from; without
  `validation_file` whole files of records are held out (`Records.hold_out`).
  Documents, sentences, short_probability and seed are of text alone; records
  with static masks keep those.
  """

  next_sentence: bool = fields.setting(
    True, help='learn next-sentence prediction too, on pairs of segments'
  )
  mask_probability: float = fields.setting(
    0.15, help='share of the tokens to predict', above=0, below=1
  )
  whole_word: bool = fields.setting(
    False, help='mask all pieces of a word together'
  )
  max_predictions_per_sequence: int = fields.setting(
    20,
    help="tokens to predict in one sequence at most; Google's value for 128 "
    "tokens, and MobileBERT's for 512",
    at_least=1,
  )
  sentences: Literal['marks', 'lines'] = fields.setting(
    'marks',
    help="what ends a sentence of text: 'marks', or 'lines' (BERT's own "
    'format: a sentence on each line)',
  )
  short_probability: float = fields.setting(
    0.1,
    help='share of the sequences that have a random length',
    at_least=0,
    at_most=1,
  )
  seed: int = fields.setting(
    0, help='seed of the sequences made from text', at_least=0
  )


@dataclasses.dataclass(frozen=True)
class TableOptions:
  """How files of cells are written: *.csv, *.tsv and other text.

  What the first line says, and the suffix, need not be set; what is found
  against the suffix is said.
  """

  delimiter: str | None = fields.setting(
    None,
    help="what stands between cells: a sign, or 'comma', 'tab', 'semicolon' or "
    "'bar'; None: what the suffix says, unless the first line has the columns "
    'with another one',
  )
  quotes: bool | None = fields.setting(
    None,
    help='whether quotes enclose cells; None: with all separators but tabs, '
    'and with tabs where the whole file has them as a program writes them',
  )
  header: tuple[str, ...] = fields.setting(
    (),
    help='the names of all columns, for files without a line of them; (): the '
    'first line names them',
  )
  comment: str | None = fields.setting(
    None,
    help='what begins lines that are no rows; None: only lines above the '
    "header that begin with '#' are none",
  )


@dataclasses.dataclass(frozen=True)
class FileOptions(TableOptions):
  """Which files there are.

  `data.path` is a directory with train.*, perhaps validation.* (or valid.*,
  dev.*) and test.*, or it is the training file itself.
  """

  train_file: str | None = fields.setting(
    None, help='another name for the training file, relative to the directory'
  )
  validation_file: str | None = fields.setting(
    None, help='another name for the file to score on'
  )
  test_file: str | None = fields.setting(
    None, help='another name for the file to predict; it needs no labels'
  )
  validation_fraction: float = fields.setting(
    0.1,
    help='share of the training rows to hold out if there is no validation '
    'file: spread over the file by a hash of their positions, the same ones '
    'in every run',
    above=0,
    below=1,
  )


@dataclasses.dataclass(frozen=True)
class TextColumns(FileOptions):
  """Names of the columns; further ones do not matter."""

  text_column: str = fields.setting('text', help='the text')
  pair_column: str | None = fields.setting(
    None, help='the second text, for tasks on pairs; None: there is none'
  )
  label_column: str = fields.setting(
    'label', help='the label; the test file needs none'
  )
  id_column: str | None = fields.setting(
    None,
    help='what a row is called in the file of predictions; None: its number, '
    'from 0',
  )
  ignore_labels: tuple[str, ...] = fields.setting(
    (),
    help='rows with one of these labels, or numbers, are left out: marks for '
    "what is not known, such as 'nan' or '-1'",
  )


@dataclasses.dataclass(frozen=True)
class CustomClassificationOptions(TextColumns):
  """`config.options` of custom_classification."""

  labels: tuple[str, ...] = fields.setting(
    (),
    help='names of the classes, in the order of the logits; (): those of the '
    'training file, in alphabetical order (by value, if all are whole '
    'numbers)',
  )
  multi_label: bool = fields.setting(
    False, help='any number of labels for a text, not exactly one'
  )
  label_separator: str = fields.setting(
    ',',
    help='what stands between the labels of a cell, with `multi_label`; in '
    'JSON Lines the cell may also be a list',
  )


@dataclasses.dataclass(frozen=True)
class CustomRegressionOptions(TextColumns):
  """`config.options` of custom_regression: files and columns."""


@dataclasses.dataclass(frozen=True)
class CustomTaggingOptions(FileOptions, TaggingOptions):
  """`config.options` of custom_tagging.

  A file is JSON Lines (*.jsonl) with a list of words and a list of tags in
  each object, or it has columns (*.conll, *.txt): one word a line, its tag
  last, blank lines between sentences.
  """

  tokens_column: str = fields.setting('tokens', help='the words, in JSON Lines')
  tags_column: str = fields.setting(
    'tags', help='their tags; the test file needs none'
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomQaOptions(FileOptions, NullSpanOptions):
  """`config.options` of custom_qa.

  A file is a table or SQuAD's JSON (*.json). In a table an answer is a text
  of the context, and where it begins is where it first stands there; JSON
  Lines may also have a list of answers, and objects with 'text' and
  'answer_start', as SQuAD has them.
  """

  question_column: str = fields.setting('question', help='the question')
  context_column: str = fields.setting(
    'context', help='the text that answers it'
  )
  answers_column: str = fields.setting(
    'answers', help='the answer or the answers; the test file needs none'
  )
  id_column: str | None = fields.setting(
    None,
    help='what a question is called in the files of predictions; None: its '
    "row's number, from 0",
  )
  allow_no_answer: bool = fields.setting(
    False,
    help='a text may not answer its question: an empty cell or list. Scores '
    'then are those of SQuAD 2.0',
  )


@dataclasses.dataclass(frozen=True)
class CustomChoiceOptions(FileOptions):
  """`config.options` of custom_choice."""

  question_column: str = fields.setting(
    'question', help='the question, or whatever the choices go with'
  )
  choices_column: str = fields.setting(
    'choices', help='a list of texts, in JSON Lines'
  )
  choice_columns: tuple[str, ...] = fields.setting(
    (),
    help='a column for each choice instead, as CSV and TSV need; empty ones '
    'at the end do not count',
  )
  answer_column: str = fields.setting(
    'answer', help='the right choice; the test file needs none'
  )
  answer: Literal['index', 'letter', 'text'] = fields.setting(
    'index',
    help="how it is given: by 'index', from 0; by 'letter', from A; or as "
    "the 'text' of the choice. Predictions are written in the same way",
  )
  id_column: str | None = fields.setting(
    None,
    help='what a row is called in the file of predictions; None: its number, '
    'from 0',
  )


# The name that `config.task` says -> the fields of `config.options`.
OPTIONS: Mapping[str, type] = {
  'entailment': NoOptions,
  'squad_v1': SpanOptions,
  'squad_v2': NullSpanOptions,
  'cola': SubmissionOptions,
  'sst2': SubmissionOptions,
  'mrpc': SubmissionOptions,
  'stsb': SubmissionOptions,
  'qqp': SubmissionOptions,
  'mnli': SubmissionOptions,
  'qnli': SubmissionOptions,
  'rte': SubmissionOptions,
  'wnli': SubmissionOptions,
  'conll2003': TaggingOptions,
  'wnut17': TaggingOptions,
  'swag': SubmissionOptions,
  'commonsenseqa': SubmissionOptions,
  'race': NoOptions,
  'pretraining': PretrainingOptions,
  'masked_lm': MaskedLmOptions,
  'next_sentence': NextSentenceOptions,
  'custom_choice': CustomChoiceOptions,
  'custom_classification': CustomClassificationOptions,
  'custom_qa': CustomQaOptions,
  'custom_regression': CustomRegressionOptions,
  'custom_tagging': CustomTaggingOptions,
}


def make(task: str, options: Mapping[str, Any]) -> Any:
  """The options of a task, validated.

  Args:
    task: a key of `OPTIONS`.
    options: what `config.options` says.

  Raises:
    InputError: an unknown option or a wrong value.
  """
  kind = OPTIONS[task]
  known = fields.settings(kind)
  for name in options:
    if name not in known:
      raise fields.unknown(
        fields.name('options'), name, known, f' for the task {task}'
      )
  chosen = kind(**options)
  fields.check(chosen, fields.name('options'))
  return chosen
