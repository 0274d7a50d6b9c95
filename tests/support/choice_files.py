"""Files of CommonsenseQA, as its authors publish them."""

import json

QUESTION = {
  'answerKey': 'A',
  'id': 'q1',
  'question': {
    'question_concept': 'door',
    'choices': [
      {'label': 'A', 'text': 'bank'},
      {'label': 'B', 'text': 'mall'},
      {'label': 'C', 'text': 'library'},
    ],
    'stem': 'Where is a revolving door?',
  },
}


def changed(record, path, value):
  """A copy of nested JSON with another value; None: without it."""
  copy = json.loads(json.dumps(record))
  inner = copy
  for key in path[:-1]:
    inner = inner[key]
  if value is None:
    del inner[path[-1]]
  else:
    inner[path[-1]] = value
  return copy


def write_csqa(folder, *records, test=True):
  names = ['train_rand_split.jsonl', 'dev_rand_split.jsonl']
  text = '\n'.join(
    record if isinstance(record, str) else json.dumps(record)
    for record in records
  )
  for name in names:
    (folder / name).write_text(text, encoding='utf-8')
  if test:
    record = changed(QUESTION, ['answerKey'], None)
    (folder / 'test_rand_split_no_answers.jsonl').write_text(
      json.dumps(record) + '\n'
    )
  return folder
