import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax import losses
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.convert.pretrained import from_pretrained
from mobilebert_jax.data.batching import token_cache
from mobilebert_jax.data.batching.features import EVALUATION
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.models import MobileBertForMaskedLM
from mobilebert_jax.models.outputs import MaskedLMOutput
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.pretraining import masked_lm
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support import custom_runs

NAMES = ('anna', 'ben', 'carl', 'dora')
VERBS = ('sees', 'likes', 'knows')
THINGS = ('dog', 'cat', 'house', 'tree', 'book')
WORDS = (*NAMES, *VERBS, *THINGS, 'the', '.', '##s', 'always')


def text(lines, seed=0):
  """Sentences of which half of the words can be known for sure."""
  rng = np.random.default_rng(seed)
  return ''.join(
    f'{rng.choice(NAMES)} always {rng.choice(VERBS)} the {rng.choice(THINGS)}'
    + ('s' if rng.random() < 0.5 else '')
    + ' .\n'
    for _ in range(lines)
  )


def make(**options):
  data = DataConfig(source='files', path='x')
  return TASKS['masked_lm'].make_task(options, data)


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  path = custom_runs.write_vocab(tmp_path_factory.mktemp('vocab'), WORDS)
  return MobileBertTokenizerFast(path)


def test_a_document_is_cut_into_full_sequences(tokenizer):
  examples = [
    Document('a:1', 'anna sees\nthe dogs .\n\nben'),
    Document('b:1', 'carl'),
    Document('c:1', 'unknown words'),
    Document('d:1', 'likes the cat .'),
  ]
  done = []
  features = make().encode(
    examples, tokenizer, 6, progress=lambda *now: done.append(now)
  )
  ids = features.sequences['input_ids']
  rows = [
    tokenizer.convert_ids_to_tokens(ids.values[a:b].tolist())
    for a, b in zip(ids.offsets, ids.offsets[1:])
  ]
  assert rows == [
    ['[CLS]', 'anna', 'sees', 'the', 'dog', '[SEP]'],
    ['[CLS]', '##s', '.', 'ben', '[SEP]'],
    ['[CLS]', 'carl', '[SEP]'],
    ['[CLS]', 'likes', 'the', 'cat', '.', '[SEP]'],
  ]
  assert features.scalars['document'].tolist() == [0, 0, 1, 3]
  assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_token_is_lost(tokenizer, monkeypatch):
  from mobilebert_jax.data.examples import masking

  monkeypatch.setattr(masking, '_CHUNK', 7)
  examples = [Document(str(n), text(n, n).rstrip()) for n in (1, 20, 3, 11)]
  features = make().encode(examples, tokenizer, 9)
  ids, owners = features.sequences['input_ids'], features.scalars['document']
  for index, example in enumerate(examples):
    found = []
    for row in np.flatnonzero(owners == index):
      found += ids.values[
        ids.offsets[row] + 1 : ids.offsets[row + 1] - 1
      ].tolist()
    assert (
      found == tokenizer(example.text, add_special_tokens=False)['input_ids']
    )


def test_text_without_known_tokens_or_room(tokenizer):
  with pytest.raises(InputError, match='no token that the tokenizer knows'):
    make().encode([Document('a:1', 'unknown')], tokenizer, 9)
  with pytest.raises(InputError, match=r'max_length is 2, .* at least 3'):
    make().encode([Document('a:1', 'anna')], tokenizer, 2)


def test_batches_are_masked_anew_in_each_epoch(tokenizer):
  features = make().encode([Document('a:1', text(200))], tokenizer, 32)
  rows = np.arange(len(features))
  first, again, later, fixed = (
    features.batch(rows, 32, seed=0, epoch=epoch)
    for epoch in (0, 0, 1, EVALUATION)
  )
  assert set(first) == {
    'input_ids', 'token_type_ids', 'attention_mask', 'masked_positions',
    'labels', 'document', 'weights',
  }  # fmt: skip
  # 15% of the 30 places for words.
  assert first['labels'].shape == first['masked_positions'].shape == (
    len(rows), 4
  )  # fmt: skip
  assert np.array_equal(first['labels'], again['labels'])
  assert not np.array_equal(first['labels'], later['labels'])
  assert not np.array_equal(first['labels'], fixed['labels'])
  # Padding is never predicted, and the text itself is what it was.
  for batch in (first, later, fixed):
    at, labels = batch['masked_positions'], batch['labels']
    seen = np.take_along_axis(batch['attention_mask'], at, axis=1)
    assert (labels[seen == 0] == -100).all()
    old = np.where(
      labels != -100,
      labels,
      np.take_along_axis(batch['input_ids'], at, axis=1),
    )
    text_ = batch['input_ids'].copy()
    np.put_along_axis(text_, at, old, axis=1)
    plain = features.sequences['input_ids']
    assert np.array_equal(text_[batch['attention_mask'] == 1], plain.values)


def test_perplexity_is_the_exponential_of_the_loss():
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 3, (4, 6, 11)).astype(np.float32)
  labels = np.where(rng.random((4, 6)) < 0.4, rng.integers(0, 11, (4, 6)), -100)
  labels[0, 0], labels[1, 1] = 0, -100
  batch = {
    'labels': jnp.array(labels, jnp.int32), 'weights': jnp.ones(4),
    'input_ids': jnp.zeros((4, 6), jnp.int32),
  }  # fmt: skip
  outputs = MaskedLMOutput(jnp.array(logits))
  kept = jax.device_get(jax.jit(masked_lm.predict)(outputs, batch))
  assert {value.shape for value in kept.values()} == {(4, 6)}
  scores = masked_lm.score(kept, (), None)
  wide = logits.astype(np.float64)
  log_p = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
  places = np.argwhere(labels != -100)
  nll = [-log_p[i, j, labels[i, j]] for i, j in places]
  right = [logits[i, j].argmax() == labels[i, j] for i, j in places]
  assert scores['perplexity'] == pytest.approx(np.exp(np.mean(nll)), rel=1e-6)
  assert scores['accuracy'] == np.mean(right)
  loss = losses.total(masked_lm.loss(outputs, batch))
  assert float(loss) == pytest.approx(math.log(scores['perplexity']), rel=1e-6)
  # A row without weight does not count in the loss.
  batch['weights'] = jnp.array([1.0, 1, 1, 0])
  (term,) = masked_lm.loss(outputs, batch)
  assert float(term.weight) == (labels[:3] != -100).sum()


def test_scores_of_hopeless_predictions():
  kept = {
    'counts': np.array([[True, False]]), 'target': np.array([[3, 0]]),
    'guess': np.array([[2, 0]]), 'nll': np.array([[5000.0, 0.0]]),
  }  # fmt: skip
  scores = masked_lm.score(kept, (), None)
  assert scores['accuracy'] == 0 and 1e300 < scores['perplexity'] < math.inf
  with pytest.raises(InputError, match='no masked token to score'):
    masked_lm.score({**kept, 'counts': np.zeros((1, 2), bool)}, (), None)


def test_the_worst_token_is_shown_in_its_text(tokenizer):
  examples = [Document('a:1', 'anna sees the dogs .'), Document('b:1', 'ben')]
  features = make().encode(examples, tokenizer, 9)
  ids = tokenizer.get_vocab()
  shape = (2, 8)
  kept = {
    'counts': np.zeros(shape, bool), 'target': np.zeros(shape, int),
    'guess': np.zeros(shape, int), 'nll': np.zeros(shape, np.float32),
  }  # fmt: skip
  for place, target, guess, nll in (
    (1, 'anna', 'anna', 0.25), (5, '##s', '.', 2.0),
  ):  # fmt: skip
    kept['counts'][0, place] = True
    kept['target'][0, place], kept['guess'][0, place] = ids[target], ids[guess]
    kept['nll'][0, place] = nll
  (outcome,) = masked_lm.outcomes(kept, examples, features)
  assert outcome.text == 'anna sees the dog [##s] .'
  assert (outcome.expected, outcome.predicted) == ('##s', '.')
  assert outcome.error == 2.0 and not outcome.is_right


def test_predictions_say_how_each_sequence_went(tokenizer, tmp_path):
  examples = [Document('a:1', 'anna'), Document('b:1', 'ben')]
  features = make().encode(examples, tokenizer, 9)
  kept = {
    'counts': np.array([[0, 1, 0], [0, 0, 0]], bool),
    'target': np.array([[0, 5, 0], [0, 0, 0]]),
    'guess': np.array([[0, 5, 0], [0, 0, 0]]),
    'nll': np.array([[0, 0.5, 0], [0, 0, 0]], np.float32),
  }
  path = masked_lm.write_predictions(
    tmp_path, 'validation', kept, examples, features
  )
  assert [json.loads(line) for line in path.read_text().splitlines()] == [
    {'document': 'a:1', 'tokens': 3, 'masked': 1, 'accuracy': 1.0, 'nll': 0.5},
    {
      'document': 'b:1', 'tokens': 3, 'masked': 0, 'accuracy': None,
      'nll': None,
    },
  ]  # fmt: skip
  assert list(tmp_path.iterdir()) == [path]


def test_features_from_disk_are_masked_alike(tokenizer, tmp_path):
  examples = [Document('a:1', 'unknown'), Document('b:1', text(30))]
  encode = make(whole_word=True).encode

  def batch():
    features = token_cache.encode(
      tmp_path,
      lambda part: encode(part, tokenizer, 16),
      examples,
      tokenizer,
      {},
    )
    return features.batch(np.arange(len(features)), 16, seed=1, epoch=2)

  made, found = batch(), batch()
  assert len(list(tmp_path.iterdir())) == 1
  assert (made['labels'] != -100).any()
  assert made.keys() == found.keys()
  assert all(np.array_equal(made[name], found[name]) for name in made)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """Two books and a vocabulary."""
  root = tmp_path_factory.mktemp('text')
  custom_runs.write_vocab(root, WORDS)
  data = root / 'data'
  data.mkdir()
  (data / 'a.txt').write_text(text(150))
  rows = [json.dumps({'text': text(5, seed)}) for seed in range(1, 31)]
  (data / 'b.jsonl').write_text('\n'.join(rows) + '\n')
  return root


@pytest.mark.slow
def test_the_whole_run(world, tmp_path, capsys):
  flags = custom_runs.flags(
    'masked_lm.py', world, '--config.options.whole_word=True',
    **{
      'options.validation_fraction': 0.3, 'data.batching': 'packed',
      'num_steps': 80, 'eval_every': 40, 'optimizer.learning_rate': 2e-2,
      # As wide as the body: the head then has a matrix without elements.
      'model.embedding_size': 16,
    },
  )  # fmt: skip
  run = tmp_path / 'run'
  assert custom_runs.command('train', *flags, f'--workdir={run}') == 0
  results = json.loads((run / 'results.json').read_text())
  first, final = results['first'], results['final']
  # Nearly half of the words are the same in each sentence.
  assert final['validation/accuracy'] > 0.4 > first['validation/accuracy']
  assert final['validation/perplexity'] < first['validation/perplexity'] / 2
  for scores in (first, final):
    loss = math.log(scores['validation/perplexity'])
    assert loss == pytest.approx(scores['validation/loss'], rel=1e-5)
  capsys.readouterr()
  assert custom_runs.command('eval', *flags, f'--checkpoint={run}') == 0
  again = json.loads(capsys.readouterr().out)
  assert {k: v for k, v in again.items() if k != 'step'} == {
    k: v for k, v in final.items() if k != 'step'
  }
  rows = (run / 'predictions' / 'validation.jsonl').read_text().splitlines()
  assert sum(json.loads(row)['masked'] for row in rows) > 80
  model, _ = from_pretrained(MobileBertForMaskedLM, run / 'model')
  assert model.config.vocab_size == 5 + len(WORDS)


def test_named_files_and_their_mistakes(world):
  def load(split, path=world / 'data', limits=None, **options):
    data = DataConfig(source='files', path=str(path), **limits or {})
    return TASKS['masked_lm'].make_task(options, data).load(data, split)

  ids = [d.id for d in load('train', validation_file='a.txt')]
  assert ids == [f'b.jsonl:{n}' for n in range(1, 31)]
  (held,) = load('validation', validation_file='a.txt')
  assert held.text == text(150).rstrip()
  (only,) = load('train', train_file='a.txt')
  (end,) = load('validation', train_file='a.txt')
  assert only.text + '\n' + end.text == held.text
  assert load('train', path=world / 'data' / 'a.txt') == (only,)
  lines = load('train', train_file='a.txt', documents='line')
  assert len(lines) > 100 and '\n' not in lines[0].text
  assert len(load('train', limits={'train_examples': 3})) == 3
  limits = {'eval_examples': 4}
  named = {'train_file': 'a.txt', 'validation_file': 'b.jsonl'}
  assert len(load('validation', limits=limits, **named)) == 4
  with pytest.raises(InputError, match='takes all of the text'):
    load('train', validation_file='.')
  with pytest.raises(InputError, match=r'absent\.txt: there is no such file'):
    load('train', validation_file='absent.txt')
  with pytest.raises(InputError, match=r"b\.jsonl:1: there is no 'body'"):
    load('train', text_column='body')
  with pytest.raises(InputError, match='use "files"'):
    make().load(DataConfig(), 'train')
  with pytest.raises(InputError, match=r'mask_probability is 1\.5, .* below 1'):
    make(mask_probability=1.5)
  with pytest.raises(InputError, match=r'documents is .*, but must be one of'):
    make(documents='page')
