"""Pipelines on a small random model: formats, padding, batching, errors."""

import functools

import chex
import jax
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.pipelines import PIPELINES, pipeline
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

_WORDS = (
  '[PAD] [UNK] [CLS] [SEP] [MASK] paris is the capital of france . , ? where '
  'i live in berlin a b c d e un ##aff ##able ##s this example good bad'
).split()
_LONG = ' '.join(['paris is the capital of france .'] * 4)


@pytest.fixture(scope='module')
def tokenizer():
  return MobileBertTokenizerFast(_WORDS)


def _pair(model_class, **changes):
  """A model and parameters in which every tensor matters."""
  config = MobileBertConfig(
    vocab_size=len(_WORDS),
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    embedding_size=16,
    intra_bottleneck_size=16,
    max_position_embeddings=48,
    num_feedforward_networks=2,
    **changes,
  )
  model = model_class(config)
  # NumPy's numbers need no compilation. The [PAD] vector, zero in a fresh
  # model, is not zero in a trained one.
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(leaf.dtype),
    models.abstract_params(model),
  )
  return model, params


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, params, batch):
  return model.apply({'params': params}, **batch)


def _unpadded(pair, tokenizer, text, text_pair=None):
  model, params = pair
  batch = tokenizer(text, text_pair, return_tensors='np')
  return _apply(model, params, dict(batch))


def test_five_lines_fill_mask(tmp_path, tokenizer):
  pair = _pair(models.MobileBertForMaskedLM)
  save_pretrained(tmp_path / 'model', *pair, tokenizer)
  name_or_path = tmp_path / 'model'

  from mobilebert_jax.pipelines import pipeline

  fill = pipeline('fill-mask', name_or_path)
  for guess in fill('Paris is the [MASK] of France.'):
    print(guess['token_str'], guess['score'])

  guesses = fill('Paris is the [MASK] of France.')
  assert [g['score'] for g in guesses] == sorted(
    (g['score'] for g in guesses), reverse=True
  )
  logits = _unpadded(pair, tokenizer, 'Paris is the [MASK] of France.').logits
  expected = np.asarray(jax.nn.softmax(logits[0, 4]))
  chex.assert_trees_all_close(
    np.array([g['score'] for g in guesses]),
    np.sort(expected)[::-1][:5],
    rtol=1e-4,
  )
  best = guesses[0]
  assert best['token'] == expected.argmax()
  assert best['token_str'] == tokenizer.decode([best['token']])
  assert best['sequence'] == tokenizer.decode(
    [
      *tokenizer.encode('Paris is the')[:-1],
      best['token'],
      *tokenizer.encode('of France.')[1:],
    ],
    skip_special_tokens=True,
  )


def test_five_lines_text_classification(tmp_path, tokenizer):
  pair = _pair(
    models.MobileBertForSequenceClassification,
    id2label={0: 'negative', 1: 'positive'},
  )
  save_pretrained(tmp_path / 'model', *pair, tokenizer)
  name_or_path = tmp_path / 'model'

  from mobilebert_jax.pipelines import pipeline

  classify = pipeline('text-classification', name_or_path)
  for text, result in zip(['good', 'bad'], classify(['good', 'bad'])):
    print(text, result['label'], result['score'])

  logits = _unpadded(pair, tokenizer, 'good').logits[0]
  scores = np.asarray(jax.nn.softmax(logits))
  best = int(scores.argmax())
  [result] = classify('good')
  assert result['label'] == ('negative', 'positive')[best]
  assert result['score'] == pytest.approx(scores[best], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('batch_size', [1, 3])
def test_padding_changes_nothing(tokenizer, batch_size):
  pair = _pair(models.MobileBertModel)
  features = pipeline(
    'feature-extraction', pair, tokenizer, batch_size=batch_size
  )
  texts = ['', 'a', _LONG, 'a b c d e ' * 3]
  results = features(texts, return_tensors=True)
  for text, result in zip(texts, results):
    expected = _unpadded(pair, tokenizer, text).last_hidden_state
    assert result.shape == expected.shape
    scale = float(np.abs(expected).max())
    chex.assert_trees_all_close(
      result / scale, np.asarray(expected) / scale, atol=1e-5
    )
  # [PAD] tokens do change the outputs: the test would see them.
  model, params = pair
  batch = tokenizer(
    'a', padding='max_length', max_length=8, return_tensors='np'
  )
  padded = _apply(model, params, dict(batch)).last_hidden_state[0, :3]
  assert np.abs(padded - results[1][0]).max() > 1e-3 * np.abs(padded).max()
  assert features('a') == features(['a'])[0]


def test_few_programs_for_many_lengths(tokenizer):
  features = pipeline(
    'feature-extraction', _pair(models.MobileBertModel), tokenizer
  )
  for length in range(1, 15):
    features(' '.join(['a'] * length))
  assert features._apply._cache_size() == 1


def test_fill_mask_forms(tokenizer):
  fill = pipeline('fill-mask', _pair(models.MobileBertForMaskedLM), tokenizer)
  one = fill('a [MASK] b')
  assert len(one) == 5
  assert set(one[0]) == {'score', 'token', 'token_str', 'sequence'}
  assert fill(['a [MASK] b']) == one
  many = fill(['a [MASK] b', 'paris is the [MASK] . ' * 3], top_k=2)
  chex.assert_trees_all_close(
    [g['score'] for g in many[0]], [g['score'] for g in one[:2]], rtol=1e-5
  )
  assert [len(guesses) for guesses in many[1]] == [2, 2, 2]
  # With several masks the others stay visible.
  assert many[1][0][0]['sequence'].count('[MASK]') == 2
  aimed = fill('a [MASK] b', targets=['good', 'bad', 'goods'])
  assert sorted(g['token_str'] for g in aimed) == ['bad', 'good']
  assert aimed[0]['score'] >= aimed[1]['score']
  with pytest.raises(InputError, match='input 1 has no mask token'):
    fill(['[MASK]', 'a b'])
  with pytest.raises(InputError, match='none of the targets'):
    fill('[MASK]', targets=[''])


@pytest.mark.slow
def test_text_classification_forms(tokenizer):
  pair = _pair(models.MobileBertForSequenceClassification, num_labels=3)
  classify = pipeline('sentiment-analysis', pair, tokenizer)
  single = classify('good')
  assert list(single[0]) == ['label', 'score'] and len(single) == 1
  assert classify(['good', 'bad'])[0]['label'] == single[0]['label']
  ranked = classify('good', top_k=None)
  assert len(ranked) == 3
  assert sum(r['score'] for r in ranked) == pytest.approx(1, abs=1e-6)
  assert [len(r) for r in classify(['good', 'bad'], top_k=2)] == [2, 2]
  both = classify({'text': 'good', 'text_pair': 'bad'}, top_k=None)
  logits = _unpadded(pair, tokenizer, 'good', 'bad').logits[0]
  raw = classify(
    {'text': 'good', 'text_pair': 'bad'}, top_k=None, function_to_apply='none'
  )
  assert raw[0]['score'] == pytest.approx(float(logits.max()), rel=1e-4)
  assert [r['label'] for r in raw] == [r['label'] for r in both]
  multi = pipeline(
    'text-classification',
    _pair(
      models.MobileBertForSequenceClassification,
      num_labels=3,
      problem_type='multi_label_classification',
    ),
    tokenizer,
  )
  for raw_score, score in zip(
    multi('good', top_k=None, function_to_apply='none'),
    multi('good', top_k=None),
  ):
    assert score['score'] == pytest.approx(
      1 / (1 + np.exp(-raw_score['score'])), rel=1e-5
    )
  with pytest.raises(InputError, match=r'input 1 is 3; it must be a string'):
    classify(['good', 3])
  with pytest.raises(InputError, match='function_to_apply must be one of'):
    classify('good', function_to_apply='tanh')


@pytest.mark.slow
def test_token_classification(tokenizer):
  labels = {0: 'O', 1: 'B-PER', 2: 'I-PER', 3: 'B-LOC', 4: 'I-LOC'}
  pair = _pair(models.MobileBertForTokenClassification, id2label=labels)
  find = pipeline('ner', pair, tokenizer)
  text = 'unaffable paris berlins, Zebra'
  logits = np.asarray(_unpadded(pair, tokenizer, text).logits[0])
  entities = find(text, ignore_labels=[])
  assert [e['word'] for e in entities] == (
    'un ##aff ##able paris berlin ##s , Zebra'.split()
  )
  assert [labels[i] for i in logits[1:-1].argmax(-1)] == [
    e['entity'] for e in entities
  ]
  assert [(e['start'], e['end']) for e in entities][-2:] == [(23, 24), (25, 30)]
  assert [e['index'] for e in entities] == list(range(1, 9))
  for strategy in ('first', 'average', 'max'):
    groups = find(text, strategy, ignore_labels=[])
    assert groups[0]['start'] == 0 and groups[-1]['end'] == 30
    assert ' '.join(g['word'] for g in groups).replace(' ,', ',') == (
      'unaffable paris berlins, Zebra'
    )
  simple = find(text, 'simple')
  assert all(e['entity_group'] in ('PER', 'LOC') for e in simple)
  assert find([text, 'a'], 'simple')[0] == simple
  with pytest.raises(InputError, match='aggregation_strategy must be one of'):
    find(text, 'mean')


@pytest.mark.slow
def test_question_answering(tokenizer):
  pair = _pair(models.MobileBertForQuestionAnswering)
  ask = pipeline('question-answering', pair, tokenizer)
  question, text = 'where i live ?', 'i live in berlin , a c . paris is good'
  answer = ask(question=question, context=text)
  assert set(answer) == {'score', 'start', 'end', 'answer'}
  assert text[answer['start'] : answer['end']] == answer['answer'] != ''
  out = _unpadded(pair, tokenizer, question, text)
  encoded = tokenizer(question, text)
  allowed = np.array([i == 1 for i in encoded.sequence_ids()])
  allowed[0] = True
  start, end = (
    np.where(allowed, np.asarray(x[0], np.float64), -np.inf)
    for x in (out.start_logits, out.end_logits)
  )
  start, end = (np.exp(x) / np.exp(x).sum() for x in (start, end))
  start[0] = end[0] = 0
  scores = np.tril(np.triu(np.outer(start, end)), 14)
  first, last = np.unravel_index(scores.argmax(), scores.shape)
  assert answer['score'] == pytest.approx(scores.max(), rel=1e-4)
  assert answer['start'] == encoded.token_to_chars(int(first)).start
  assert answer['end'] == encoded.token_to_chars(int(last)).end
  best = ask({'question': question, 'context': text}, top_k=3)
  assert len(best) == 3 and best[0] == answer
  assert len(ask([question, question], text)) == 2
  # A long text is read in parts that overlap.
  long = ask(question, _LONG * 5, max_seq_len=32, doc_stride=8)
  assert (_LONG * 5)[long['start'] : long['end']] == long['answer'] != ''
  none = ask(question, text, handle_impossible_answer=True, top_k=200)
  assert '' in [a['answer'] for a in none]
  with pytest.raises(InputError, match='the context of example 0 is'):
    ask(question, '')
  with pytest.raises(InputError, match='stride=30 must be smaller'):
    ask(question, _LONG * 5, max_seq_len=32, doc_stride=30)


def test_question_answering_survives_huge_logits(tokenizer):
  model, params = _pair(models.MobileBertForQuestionAnswering)
  head = params['qa_outputs']
  params = {**params, 'qa_outputs': {**head, 'kernel': head['kernel'] * 1e6}}
  ask = pipeline('question-answering', (model, params), tokenizer)
  answer = ask('where i live ?', 'i live in berlin')
  assert answer['answer'] and np.isfinite(answer['score'])


@pytest.mark.slow
def test_zero_shot(tokenizer):
  pair = _pair(
    models.MobileBertForSequenceClassification,
    id2label={0: 'contradiction', 1: 'neutral', 2: 'ENTAILMENT'},
  )
  classify = pipeline('zero-shot-classification', pair, tokenizer)
  result = classify('paris is good', ['good', 'bad'])
  logits = [
    _unpadded(pair, tokenizer, 'paris is good', f'This example is {c}.').logits
    for c in ('good', 'bad')
  ]
  expected = np.asarray(jax.nn.softmax(np.array([x[0, 2] for x in logits])))
  scores = dict(zip(result['labels'], result['scores']))
  assert scores['good'] == pytest.approx(expected[0], rel=1e-4)
  assert result['scores'] == sorted(result['scores'], reverse=True)
  multi = classify('paris is good', 'good, bad', multi_label=True)
  pick = np.array([logits[0][0, 0], logits[0][0, 2]])
  scores = dict(zip(multi['labels'], multi['scores']))
  assert scores['good'] == pytest.approx(
    float(jax.nn.softmax(pick)[1]), rel=1e-4
  )
  assert len(classify(['a', 'b'], ['good'])) == 2
  with pytest.raises(InputError, match=r'must have \{\} in the label'):
    classify('a', ['good'], hypothesis_template='none')
  plain = _pair(models.MobileBertForSequenceClassification)
  with pytest.raises(InputError, match="begins with 'entail'"):
    pipeline('zero-shot-classification', plain, tokenizer)('a', ['good'])


def test_wrong_uses(tokenizer, tmp_path):
  pair = _pair(models.MobileBertForMaskedLM)
  cases = (
    (lambda: pipeline('summarization', pair, tokenizer), 'unknown task'),
    (lambda: pipeline('ner', pair, tokenizer), 'needs a MobileBertForToken'),
    (lambda: pipeline('fill-mask', pair), 'must be given'),
    (lambda: pipeline('fill-mask', 3, tokenizer), 'hub name, a path or a pair'),
    (
      lambda: pipeline('fill-mask', pair, tokenizer, batch_size=0),
      'batch_size must be a positive integer',
    ),
    (
      lambda: pipeline('fill-mask', tmp_path / 'no' / 'model'),
      'does not exist',
    ),
    (
      lambda: pipeline(
        'fill-mask', pair, MobileBertTokenizerFast([*_WORDS, 'extra'])
      ),
      'the tokenizer has 33 tokens, but the model only 32',
    ),
    (
      lambda: pipeline('fill-mask', pair, tokenizer)('[MASK] ' * 60),
      'input 0 has 62 tokens, but the model takes 48',
    ),
    (
      lambda: pipeline('fill-mask', pair, tokenizer)(['[MASK]', None]),
      r'inputs\[1\] is None; it must be a string',
    ),
    (
      lambda: pipeline('fill-mask', pair, tokenizer)('[MASK]', top_k=0),
      'top_k must be a positive integer',
    ),
  )
  for run, message in cases:
    with pytest.raises(InputError, match=message):
      run()
  fill = pipeline('fill-mask', pair, tokenizer)
  assert len(fill('[MASK] ' + 'a ' * 60, truncation=True)) == 5
  assert set(PIPELINES) >= {'fill-mask', 'text-classification'}


@pytest.mark.parametrize('has_rules', [False, True])
def test_a_context_without_any_token_has_the_empty_answer(tokenizer, has_rules):
  rules = {'question-answering': {'doc_stride': 8, 'max_query_length': 8}}
  params = {'task_specific_params': rules} if has_rules else {}
  pair = _pair(models.MobileBertForQuestionAnswering, **params)
  ask = pipeline('question-answering', pair, tokenizer)
  assert (ask.rules is not None) == has_rules
  none = {'score': 0.0, 'start': 0, 'end': 0, 'answer': ''}
  assert ask('where ?', ' \u200b ') == none
  first, second = ask(['where ?'] * 2, ['paris is the capital', ' '])
  assert first['answer'] and second == none


@pytest.mark.parametrize('strategy', ['first', 'max'])
@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('un\u0301affable paris', ['unaffable', 'paris']),
    ('paris\u00ad un\u00adaffable', ['paris', 'unaffable']),
    ('un\u0301aff\u0301able\u0301 a', ['unaffable', 'a']),
  ],
)
def test_words_are_those_of_the_tokenizer(tokenizer, text, words, strategy):
  """Accents are dropped, and soft hyphens: lengths of strings mislead."""
  labels = dict(enumerate('abcdefgh'))
  pair = _pair(models.MobileBertForTokenClassification, id2label=labels)
  find = pipeline('ner', pair, tokenizer)
  # A label of its own for each token, so that nothing joins two words.
  find.run = lambda rows: [{'logits': np.eye(len(rows[0]['input_ids']), 8)}]
  result = find(text, strategy, ignore_labels=[])
  assert [entity['word'] for entity in result] == words
