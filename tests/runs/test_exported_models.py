"""What a run's `model/` says about its use, and that pipelines follow it."""

import json

import pytest

import mobilebert_jax as mb
from mobilebert_jax.pipelines import pipeline
from mobilebert_jax.training.workdir import Workdir
from tests.support import squad_files, tiny
from tests.support.custom_runs import command, flags

# Whole runs.
pytestmark = pytest.mark.slow

RULES = {
  'doc_stride': 24,
  'max_query_length': 12,
  'max_answer_length': 9,
  'n_best': 5,
}
LENGTH = 64


@pytest.fixture(scope='module')
def answering(tmp_path_factory):
  """A run of SQuAD 2.0: long texts in short windows; its arguments."""
  root = tmp_path_factory.mktemp('squad')
  squad_files.write(root / 'data', '2.0', squad_files.v2())
  files = squad_files.tokenizer().files()
  (root / 'vocab.txt').write_text(files['vocab.txt'])
  options = {f'options.{name}': value for name, value in RULES.items()}
  arguments = flags(
    'squad_v2.py:small', root, f'--workdir={root / "run"}',
    **{
      'data.source': 'files', 'data.max_length': LENGTH, 'data.buckets': '()',
      'model.max_position_embeddings': 80, 'eval_every': 8, **options,
    },
  )  # fmt: skip
  assert command('train', *arguments) == 0
  return Workdir(root / 'run'), arguments


def test_the_tokenizer_has_the_length_of_training(answering):
  workdir, _ = answering
  for directory in (workdir.model, workdir.tokenizer):
    values = json.loads((directory / 'tokenizer_config.json').read_text())
    assert values['model_max_length'] == LENGTH
    assert values['do_lower_case'] is True and values['pad_token'] == '[PAD]'


def test_the_rules_are_in_the_config(answering):
  workdir, _ = answering
  values = json.loads((workdir.model / 'config.json').read_text())
  best = json.loads(workdir.results.read_text())['best']
  assert values['task_specific_params'] == {
    'question-answering': {
      **RULES, 'null_score_threshold': best['validation/best_f1_thresh'],
    }
  }  # fmt: skip


def test_the_pipeline_answers_as_the_evaluation(answering):
  workdir, _ = answering
  expected = json.loads((workdir.predictions / 'predictions.json').read_text())
  nbest = json.loads(
    (workdir.predictions / 'nbest_predictions.json').read_text()
  )
  answer = pipeline('question-answering', workdir.model)
  records = squad_files.v2()
  results = answer([r['question'] for r in records], squad_files.TEXT)
  assert [one['answer'] for one in results] == [
    expected[record['id']] for record in records
  ]
  best = answer(
    records[0]['question'], squad_files.TEXT, top_k=3,
    handle_impossible_answer=False,
  )  # fmt: skip
  listed = [one['text'] for one in nbest['q1'] if one['text']]
  assert [one['answer'] for one in best] == listed[:3]
  for one in best:
    assert squad_files.TEXT[one['start'] : one['end']] == one['answer']


def test_other_rules_can_be_given(answering):
  workdir, _ = answering
  answer = pipeline('question-answering', workdir.model)
  asked = squad_files.v2()[0]['question']
  short = answer(
    asked, squad_files.TEXT, max_answer_len=1, handle_impossible_answer=False
  )
  # One token is one letter here.
  assert len(short['answer']) == 1
  plain = answer(asked, squad_files.TEXT, max_seq_len=60, doc_stride=10)
  words = squad_files.TEXT.replace('(', ' ').replace(')', ' ')
  assert plain['answer'].split()[0] in words


def test_the_card_tells_the_run(answering):
  workdir, _ = answering
  text = (workdir.model / 'README.md').read_text()
  assert 'rajpurkar/squad_v2' in text and 'question-answering' in text
  assert 'last step (step 8)' in text
  assert str(workdir.path.parent) not in text


def test_a_run_of_an_earlier_version_continues(answering):
  """Its tokenizer has no length, its model no rules and no card."""
  workdir, arguments = answering
  for directory in (workdir.model, workdir.tokenizer):
    file = directory / 'tokenizer_config.json'
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, 'model_max_length': 10**30}))
  for file in (workdir.model / 'config.json', workdir.model_config):
    values = json.loads(file.read_text())
    values.pop('task_specific_params', None)
    file.write_text(json.dumps(values))
  before = json.loads(workdir.results.read_text())
  workdir.results.unlink()
  (workdir.model / 'README.md').unlink()
  assert command('train', *arguments) == 0
  assert json.loads(workdir.results.read_text()) == before
  assert (workdir.model / 'README.md').exists()


def test_a_classifier_cuts_where_training_did(tmp_path):
  arguments = [
    f'--config={tiny.write(tmp_path)}',
    f'--workdir={tmp_path / "run"}',
    '--config.model.max_position_embeddings=16',
    '--config.num_steps=2',
    '--config.eval_every=2',
  ]
  assert command('train', *arguments) == 0
  classify = pipeline('text-classification', tmp_path / 'run' / 'model')
  assert classify.max_length == 8
  assert classify.model.config.max_position_embeddings > 8
  text = 'good film ' * 40
  with pytest.raises(mb.InputError, match='model takes 8'):
    classify(text)
  cut = classify(text, truncation=True)
  assert cut == classify('good film good film good film')
