"""Heads follow the names of labels, wherever two parties number them."""

import json
import logging
import shutil
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilebert_jax import models
from mobilebert_jax.convert import label_names
from mobilebert_jax.convert.pretrained import load_pretrained, save_pretrained
from mobilebert_jax.runtime.errors import InputError
from tests.support.convert_models import assert_same_bits, tiny

CLASSIFIER = models.MobileBertForSequenceClassification
TAGGER = models.MobileBertForTokenClassification
NLI = ('contradiction', 'entailment', 'neutral')
_LETTERS = st.text(
  st.characters(codec='utf-8', categories=('L',)), min_size=1, max_size=6
)


def _names(*names):
  return dict(enumerate(names))


@pytest.fixture(scope='module')
def nli(tmp_path_factory):
  directory = tmp_path_factory.mktemp('nli')
  save_pretrained(directory, *tiny(CLASSIFIER, id2label=_names(*NLI)))
  return directory


def _load(directory, *names, cls=CLASSIFIER, **options):
  return load_pretrained(cls, directory, id2label=_names(*names), **options)


@pytest.mark.parametrize(
  ('stored', 'wanted', 'kind', 'order'),
  [
    (NLI, NLI, 'same', (0, 1, 2)),
    (NLI, ('Contradiction ', 'ENTAILMENT', 'neutral'), 'same', (0, 1, 2)),
    (NLI, ('entailment', 'neutral', 'contradiction'), 'reordered', (1, 2, 0)),
    (('a', 'A'), ('A', 'a'), 'reordered', (1, 0)),
    (('a', 'A'), ('a', 'b'), 'other', ()),
    (('LABEL_0', 'LABEL_1'), ('no', 'yes'), 'by_position', (0, 1)),
    (('no', 'yes'), ('LABEL_0', 'LABEL_1'), 'by_position', (0, 1)),
    (('LABEL_1', 'LABEL_0'), ('LABEL_0', 'LABEL_1'), 'reordered', (1, 0)),
    (('LABEL_0', 'LABEL_1'), ('a', 'b', 'c'), 'other', ()),
    (('0', '1'), ('no', 'yes'), 'other', ()),
    (NLI, NLI[:2], 'other', ()),
    (('caf\u00e9', 'b'), ('b', 'cafe\u0301'), 'reordered', (1, 0)),
  ],
)
def test_what_is_the_same_label(stored, wanted, kind, order):
  assert label_names.match(stored, wanted) == label_names.Match(kind, order)


@settings(derandomize=True, max_examples=60, database=None, deadline=None)
@given(st.data())
def test_any_order_and_form_finds_the_same_rows(data):
  names = data.draw(
    st.lists(_LETTERS, min_size=1, max_size=8, unique_by=label_names.key)
  )
  order = data.draw(st.permutations(range(len(names))))
  forms = (
    str, str.upper, lambda s: f' {s}\u00a0',
    lambda s: unicodedata.normalize('NFD', s),
    lambda s: unicodedata.normalize('NFC', s),
  )  # fmt: skip
  wanted = []
  for row in order:
    other = data.draw(st.sampled_from(forms))(names[row])
    same = label_names.key(other) == label_names.key(names[row])
    # A few capitals come back as other letters.
    wanted.append(other if same else names[row])
  found = label_names.match(names, wanted)
  assert found.kind in ('same', 'reordered')
  assert found.order == tuple(order)


def test_names_in_another_case_are_said():
  names = ('Entailment', 'neutral'), ('entailment', 'neutral')
  said = label_names.describe(label_names.match(*names), *names, 'the model')
  assert said == (
    'the model writes the labels as Entailment, neutral; they are those that '
    'are called entailment, neutral here.'
  )
  equal = names[1], names[1]
  assert label_names.describe(label_names.match(*equal), *equal, 'x') is None


def test_rows_follow_their_names(nli, caplog):
  stored = load_pretrained(CLASSIFIER, nli).params['classifier']
  with caplog.at_level(logging.WARNING):
    same = _load(nli, *NLI)
  assert same.report.notes == () and not caplog.records
  result = _load(nli, 'entailment', 'Neutral', 'CONTRADICTION')
  assert result.model.config.label2id['Neutral'] == 1
  for name, value in stored.items():
    assert_same_bits(
      {'x': result.params['classifier'][name]}, {'x': value[..., [1, 2, 0]]}
    )
  (note,) = result.report.notes
  assert 'put into the order entailment, Neutral, CONTRADICTION' in note
  assert not result.report.newly_initialised


def test_tags_follow_their_names(tmp_path):
  tags = ('O', 'B-PER', 'I-PER')
  save_pretrained(tmp_path / 'm', *tiny(TAGGER, id2label=_names(*tags)))
  stored = load_pretrained(TAGGER, tmp_path / 'm').params['classifier']
  result = _load(tmp_path / 'm', 'B-PER', 'I-PER', 'O', cls=TAGGER)
  kernel = result.params['classifier']['kernel']
  assert np.array_equal(kernel, stored['kernel'][:, [1, 2, 0]])


def test_other_labels_make_a_fresh_head_or_are_refused(nli):
  stored = load_pretrained(CLASSIFIER, nli).params
  result = _load(nli, 'low', 'middle', 'high')
  both = ('classifier/bias', 'classifier/kernel')
  assert result.report.newly_initialised == both
  assert not np.array_equal(
    result.params['classifier']['kernel'], stored['classifier']['kernel']
  )
  assert_same_bits(result.params['mobilebert'], stored['mobilebert'])
  assert 'the head is drawn anew' in result.report.notes[0]
  for names in (('low', 'middle', 'high'), ('no', 'yes')):
    with pytest.raises(InputError, match='which are not the') as raised:
      _load(nli, *names, other_labels='refuse')
    assert '\n' not in str(raised.value)


def test_generic_names_keep_their_places(tmp_path):
  save_pretrained(tmp_path / 'm', *tiny(CLASSIFIER, num_labels=3))
  stored = load_pretrained(CLASSIFIER, tmp_path / 'm').params['classifier']
  result = _load(tmp_path / 'm', *NLI, other_labels='refuse')
  assert_same_bits(result.params['classifier'], stored)
  assert 'are taken by their places' in result.report.notes[0]


def test_the_number_that_is_there_keeps_the_names(nli):
  result = load_pretrained(CLASSIFIER, nli, num_labels=3)
  assert tuple(result.model.config.id2label.values()) == NLI


def test_the_head_of_another_class_is_drawn_anew(tmp_path):
  save_pretrained(tmp_path / 'm', *tiny(TAGGER, num_labels=3))
  result = load_pretrained(CLASSIFIER, tmp_path / 'm', num_labels=3)
  assert 'classifier/kernel' in result.report.newly_initialised
  assert 'has the head of MobileBertForTokenC' in result.report.notes[0]


@pytest.mark.parametrize('names', [None, ('no', 'yes')])
def test_a_config_that_names_fewer_labels_than_the_head_has(
  names, nli, tmp_path
):
  directory = shutil.copytree(nli, tmp_path / 'm')
  config = json.loads((directory / 'config.json').read_text())
  del config['id2label'], config['label2id']
  if names:
    config['id2label'] = _names(*names)
  (directory / 'config.json').write_text(json.dumps(config))
  if names:
    with pytest.raises(InputError, match=r'names 2 labels .no, yes.*3 rows'):
      load_pretrained(CLASSIFIER, directory)
  else:
    result = load_pretrained(CLASSIFIER, directory)
    assert result.model.config.num_labels == 3
    assert 'has 3 rows: its rows count' in result.report.notes[0]
  assert _load(directory, *NLI).model.config.num_labels == 3


@settings(derandomize=True, max_examples=12, database=None, deadline=None)
@given(st.permutations(range(3)), st.sampled_from((str, str.upper, str.title)))
def test_every_order_of_the_labels_gives_the_clean_rows(nli, order, form):
  clean = _load(nli, *NLI).params['classifier']
  wanted = [form(NLI[row]) for row in order]
  result = _load(nli, *wanted, other_labels='refuse').params['classifier']
  for name, value in clean.items():
    assert np.array_equal(result[name], value[..., list(order)])
