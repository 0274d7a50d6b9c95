"""Model cards: the same text for the same summary, and what the hub reads."""

import dataclasses
import importlib.util

import pytest
from huggingface_hub import ModelCard

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.overrides import to_train_config
from mobilebert_jax.config.run import DataConfig, TrainConfig
from mobilebert_jax.reporting import model_card
from mobilebert_jax.reporting.model_card import ModelSummary
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

RESULTS = {
  'task': 'mrpc',
  'primary_metric': 'validation/f1',
  'first': {'step': 0, 'validation/f1': 0.5, 'validation/accuracy': 0.25},
  'best': {'step': 8, 'validation/f1': 0.75, 'validation/accuracy': 0.625},
  'final': {'step': 9, 'validation/f1': 0.7, 'validation/accuracy': 0.5},
}
CONFIG = TrainConfig(
  task='mrpc',
  init='google/mobilebert-uncased',
  token='hf_secret',
  cache_dir='/home/anna/cache',
  compilation_cache_dir='/home/anna/compiled',
  data=DataConfig(
    source='files', path='/home/anna/data/glue', max_length=64,
    cache_dir='/home/anna/tokens',
  ),
  model={'hidden_dropout_prob': 0.1},
  # As a config file's are, which has them all.
  options={'predict_test': True},
  num_epochs=3.0,
)  # fmt: skip
SUMMARY = ModelSummary(
  head='MobileBertForSequenceClassification',
  max_length=64,
  lower_case=True,
  labels=('not_equivalent', 'equivalent'),
  config=CONFIG,
  results=RESULTS,
  about=(('steps', '9'), ('seed', '0')),
  base_model='google/mobilebert-uncased',
  versions={'jax': '0.10.2'},
)


def parse(text, tmp_path):
  """The card as huggingface_hub reads it from its file."""
  path = tmp_path / model_card.NAME
  path.write_text(text, encoding='utf-8')
  return ModelCard.load(path)


def test_the_hub_reads_the_metadata(tmp_path):
  data = parse(model_card.card(SUMMARY), tmp_path).data
  assert data.library_name == 'transformers'
  assert data.pipeline_tag == 'text-classification'
  assert data.base_model == 'google/mobilebert-uncased'
  assert data.datasets == ['nyu-mll/glue'] and data.language == 'en'
  assert data.metrics == ['f1', 'accuracy'] and data.license is None
  f1, accuracy = data.eval_results
  assert f1.metric_value == 0.75 and accuracy.metric_value == 0.625
  assert f1.dataset_type == 'nyu-mll/glue' and f1.dataset_config == 'mrpc'
  assert f1.dataset_split == 'validation' and f1.metric_type == 'f1'


def test_a_licence_is_there_only_if_it_is_given(tmp_path):
  summary = dataclasses.replace(SUMMARY, license='apache-2.0', language='de')
  data = parse(model_card.card(summary), tmp_path).data
  assert data.license == 'apache-2.0' and data.language == 'de'


def test_the_text_tells_scores_settings_and_use():
  text = model_card.card(SUMMARY)
  assert '| validation/f1 | 0.5000 | 0.7500 | 0.7000 |' in text
  assert 'Labels: 0: not\\_equivalent, 1: equivalent.' in text
  assert 'AutoModelForSequenceClassification' in text
  assert "pipeline('text-classification', 'path/to/model')" in text
  assert 'at most 64 tokens' in text and 'lower-cases' in text
  assert '| seed | 0 |' in text and 'jax 0.10.2' in text
  assert text == model_card.card(SUMMARY)


def test_nothing_of_the_machine_is_in_it():
  text = model_card.card(SUMMARY)
  for secret in ('hf_secret', 'anna', '/home', 'tokens/', 'compiled'):
    assert secret not in text


def test_its_config_file_is_that_of_the_run(tmp_path):
  text = model_card.card(SUMMARY)
  code = text.split('as `config.py`')[1].split('```python\n')[1].split('```')[0]
  (tmp_path / 'config.py').write_text(code)
  spec = importlib.util.spec_from_file_location('c', tmp_path / 'config.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  shown = to_train_config(module.get_config())
  data = dataclasses.replace(CONFIG.data, path='glue', cache_dir=None)
  expected = dataclasses.replace(
    CONFIG, data=data, token=None, cache_dir=None, compilation_cache_dir='auto'
  )
  assert shown == expected


@pytest.mark.parametrize(
  ('name', 'shown'),
  [
    ('/home/anna/data', 'data'),
    ('/home/anna/data/', 'data'),
    ('gs://bucket/runs/first', 'first'),
    ('~/data', 'data'),
    ('../data', 'data'),
    ('google/mobilebert-uncased', 'google/mobilebert-uncased'),
    ('train.csv', 'train.csv'),
    (' / ', ' / '),
    ('/', '/'),
  ],
)
def test_last_part(name, shown):
  assert model_card.last_part(name) == shown


@pytest.mark.parametrize('head', model_card._HEADS)
def test_without_a_run(head, tmp_path):
  text = model_card.card(ModelSummary(head=head))
  card = parse(text, tmp_path)
  assert head in card.text and 'None' not in text
  assert card.data.eval_results is None and card.data.metrics is None
  for code in text.split('```python\n')[1:]:
    compile(code.split('```')[0], head, 'exec')


def test_scores_that_are_no_numbers_are_left_out(tmp_path):
  best = {
    'step': 8, 'validation/f1': float('nan'), 'validation/matthews': 0.5,
    'validation/loss': 1.0, 'validation/best_f1_thresh': -3.0,
  }  # fmt: skip
  summary = dataclasses.replace(SUMMARY, results={**RESULTS, 'best': best})
  (result,) = parse(model_card.card(summary), tmp_path).data.eval_results
  assert result.metric_type == 'matthews_correlation'
  assert result.metric_name == 'matthews'


def test_a_run_on_other_data_names_its_directory(tmp_path):
  config = dataclasses.replace(
    CONFIG, task='custom_classification', init='scratch', options={},
    data=dataclasses.replace(CONFIG.data, path='/home/anna/reviews.csv'),
  )  # fmt: skip
  summary = dataclasses.replace(SUMMARY, config=config, base_model=None)
  data = parse(model_card.card(summary), tmp_path).data
  assert data.datasets is None and data.language is None
  assert data.eval_results[0].dataset_name == 'reviews.csv'


def test_a_section_is_added_and_replaced(tmp_path):
  text = model_card.card(SUMMARY)
  once = model_card.with_section(text, 'Files', ['`model.onnx`', '', '# no'])
  assert once.startswith(text.rstrip()) and once.endswith('# no\n')
  assert parse(once, tmp_path).data.to_dict() == (
    parse(text, tmp_path).data.to_dict()
  )
  twice = model_card.with_section(text, 'Files', ['`model.tflite`'])
  again = model_card.with_section(twice, 'Files', ['`model.onnx`'])
  assert 'model.tflite' not in again and again.count('## Files') == 1
  # A comment in code is no heading.
  code = '# A\n\n## Files\n\n```\n# x\n```\n\n## Next\n\nkept\n'
  assert model_card.with_section(code, 'Files', ['new']) == (
    '# A\n\n## Next\n\nkept\n\n## Files\n\nnew\n'
  )


def test_summary_of_a_model_without_a_run():
  config = MobileBertConfig(
    id2label={0: 'O', 1: 'B-X'},
    task_specific_params={'question-answering': {'n_best': 7}, 'odd': 3},
  )
  tokenizer = MobileBertTokenizerFast(
    ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a'], do_lower_case=False
  )
  head = 'MobileBertForTokenClassification'
  summary = model_card.summary_of(head, config, tokenizer)
  # The tokenizer has no limit.
  assert summary.max_length == 512 and summary.labels == ('O', 'B-X')
  text = model_card.card(summary)
  assert 'keeps upper and lower case' in text and '| n\\_best | 7 |' in text
  tokenizer.model_max_length = 64
  assert model_card.summary_of(head, config, tokenizer).max_length == 64
  unnamed = model_card.summary_of(head, MobileBertConfig(), None)
  assert unnamed.labels == () and unnamed.lower_case is None


def test_a_section_of_a_card_that_is_not_ours():
  assert model_card.with_section('', 'Files', ['new']) == '## Files\n\nnew\n'
