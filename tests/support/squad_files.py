"""Small files in SQuAD's format, and a vocabulary that spells every word."""

import json
import string

import mobilebert_jax as mb

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
TEXT = (
  'The Normans (Norman: Nourmands) were the people who in the 10th and 11th '
  'centuries gave their name to Normandy, a region in France. They were '
  "descended from Norse raiders under their leader Rollo, whose king's name "
  'was Caf\u00e9   Charles III.'
)


def tokenizer():
  """Each letter, digit and sign is a token."""
  signs = [*string.ascii_lowercase, *string.digits]
  vocab = [*SPECIAL, *signs, *(f'##{c}' for c in signs), *string.punctuation]
  return mb.MobileBertTokenizerFast({t: i for i, t in enumerate(vocab)})


def answer(text, context=TEXT, start=None):
  """An answer where the text first stands."""
  start = context.index(text) if start is None else start
  return {'text': text, 'answer_start': start}


def question(id_, words, *answers, impossible=None):
  """A record of a file; with `impossible` one of SQuAD 2.0."""
  record = {'id': id_, 'question': words, 'answers': list(answers)}
  if impossible is not None:
    record['is_impossible'] = impossible
  return record


def v1():
  """Questions of SQuAD 1.1."""
  return [
    question('q1', 'Where is Normandy?', answer('France'), answer('in France')),
    question('q2', 'Who led the raiders?', answer('Rollo')),
    question('q3', 'What was the king called?', answer('Caf\u00e9')),
    question('q4', 'When?', answer('10th and 11th centuries')),
  ]


def v2():
  """The same, and one that the text does not answer."""
  return [
    *({**record, 'is_impossible': False} for record in v1()),
    question('q5', 'Who led the Romans?', impossible=True),
  ]


def document(records, context=TEXT, version='1.1'):
  """A file's content with one paragraph."""
  return {
    'version': version,
    'data': [
      {'title': 'x', 'paragraphs': [{'context': context, 'qas': records}]}
    ],
  }


def write(directory, version, records, **names):
  """Official files; `train` and `dev` are the parts of their names."""
  directory.mkdir(parents=True, exist_ok=True)
  for part in ('train', 'dev'):
    path = directory / f'{part}-v{version}.json'
    content = document(names.get(part, records), version=version)
    path.write_text(json.dumps(content), encoding='utf-8')
  return directory
