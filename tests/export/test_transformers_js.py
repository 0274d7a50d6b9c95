"""transformers.js in node, and the page of `examples/browser` in Chromium."""

import json
import shutil

import pytest

import mobilebert_jax as mb
from mobilebert_jax.export import ExportOptions, export
from mobilebert_jax.pipelines import pipeline
from tests.support import javascript_client, served

for _package in ('onnx', 'onnxruntime'):
  pytest.importorskip(_package, reason=f'{_package} is not installed')

pytestmark = pytest.mark.clients

WORDS = (
  '[PAD] [UNK] [CLS] [SEP] [MASK] the a of in is was and it not film story '
  'good bad slow bright music actor actors river city stands old bridge paris '
  'berlin cafe un ##un ##even ##s ##ly ##ed ##ing where who what when built '
  'play play ##er 18 ##89 19 . , ? ! - \' " ( ) € 東 京 by with very'
).split()
WORDS = list(dict.fromkeys(WORDS))
TEXTS = (
  'A good film, bright and slow.',
  'The story was bad; the MUSIC was not!',
  'Café de Paris: unevenly played.',
  'good',
  'Who built the old bridge in Berlin?',
  'An unknown word, 東京, and 18 € (not 19).',
)
MASKED = (
  'The [MASK] was good.',
  'Paris is a city [MASK] the river.',
  '[MASK]',
)
STORY = (
  'The old bridge in Berlin was built in 1889 by the players. “Café Élan” '
  'stands by the river - it’s very bright - and 東京 is a city, too. 🙂 The '
  'actors played unevenly: the music (slow, bad?) was not good! Who plays?'
)
QUESTIONS = (
  'When was the bridge built?',
  'Who played?',
  'Where is the Café?',
  'What is 東京?',
  'good or bad',
)
PAIRED = {'text': TEXTS[0], 'text_pair': TEXTS[1]}
MODELS = {
  'labels': (
    'MobileBertForSequenceClassification',
    {'id2label': {0: 'bad', 1: 'middling', 2: 'good'}},
  ),
  'several': (
    'MobileBertForSequenceClassification',
    {
      'id2label': {0: 'music', 1: 'city'},
      'problem_type': 'multi_label_classification',
    },
  ),
  'number': (
    'MobileBertForSequenceClassification',
    {'id2label': {0: 'stars'}, 'problem_type': 'regression'},
  ),
  'words': ('MobileBertForMaskedLM', {}),
  'answers': ('MobileBertForQuestionAnswering', {}),
  'tags': ('MobileBertForTokenClassification', {}),
}
LENGTH = 64


def close(value):
  return pytest.approx(value, rel=0, abs=1e-5)


def write(directory, head, **changes):
  """Writes a model of WORDS as a transformers directory."""
  model, params = served.make(
    head,
    dtype='float32',
    vocab_size=len(WORDS),
    max_position_embeddings=LENGTH,
    **changes,
  )
  tokenizer = mb.MobileBertTokenizerFast(WORDS, model_max_length=LENGTH)
  mb.save_pretrained(directory, model, params, tokenizer)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  """The page, with a directory for each of the models."""
  base = tmp_path_factory.getbasetemp()
  modules = javascript_client.install(base.parent / 'npm')
  site = javascript_client.make_site(
    tmp_path_factory.mktemp('page') / 'site', modules
  )
  for name, (head, changes) in MODELS.items():
    write(site.parent / 'models' / name, head, **changes)
    quantize = 'dynamic' if name == 'labels' else 'none'
    export(
      ExportOptions(
        str(site.parent / 'models' / name), 'onnx', str(site / name),
        quantize=quantize, check=2,
      )
    )  # fmt: skip
  (site / 'empty').mkdir()
  (site / 'weightless').mkdir()
  shutil.copy(site / 'labels/config.json', site / 'weightless')
  return site


def ours(site, task, name, *args, **options):
  return pipeline(task, str(site.parent / 'models' / name))(*args, **options)


def in_node(site, *calls):
  """What transformers.js, or a function of the page, says to each call."""
  keys = ('task', 'model', 'args')
  return javascript_client.run(
    site,
    'pipelines.mjs',
    {
      'directory': str(site),
      'calls': [dict(zip(keys, call)) for call in calls],
    },
  )


def in_chromium(site, *visits):
  """What the page shows at each visit (support/javascript/page.mjs)."""
  chromium = shutil.which('chromium') or shutil.which('google-chrome')
  if not chromium:
    pytest.skip('Chromium is not installed')
  with javascript_client.serve(site) as url:
    results = javascript_client.run(
      site,
      'page.mjs',
      {
        'chromium': chromium,
        'url': url + 'index.html',
        'visits': [{'query': query, 'steps': steps} for query, steps in visits],
      },
    )
    for result in results:
      assert not result['errors']
      for address in result['addresses']:
        assert address.startswith((url, 'data:', 'blob:')), address
  return results


def check_labels(result, expected):
  assert [row['label'] for row in result] == [row['label'] for row in expected]
  for row, wanted in zip(result, expected):
    assert row['score'] == close(wanted['score'])


def check_guesses(result, expected, word='token_str'):
  assert [row[word] for row in result] == [row['token_str'] for row in expected]
  for row, wanted in zip(result, expected):
    assert row['score'] == close(wanted['score'])


def test_text_classification_in_node(site):
  results = in_node(
    site,
    *(
      ('text-classification', 'labels', [text, {'top_k': 3}]) for text in TEXTS
    ),
  )
  expected = ours(site, 'text-classification', 'labels', TEXTS, top_k=3)
  assert len({rows[0]['score'] for rows in expected}) == len(TEXTS)
  for result, wanted in zip(results, expected, strict=True):
    check_labels(result, wanted)


def test_fill_mask_in_node(site):
  results = in_node(site, *(('fill-mask', 'words', [text]) for text in MASKED))
  expected = ours(site, 'fill-mask', 'words', MASKED)
  for result, wanted in zip(results, expected, strict=True):
    check_guesses(result, wanted)
    assert [row['token'] for row in result] == [r['token'] for r in wanted]
    assert [row['sequence'] for row in result] == [
      row['sequence'] for row in wanted
    ]


def test_question_answering_in_node(site):
  # It knows no longest answer, and shows its tokens decoded.
  text = TEXTS[0]
  results = in_node(
    site, *(('question-answering', 'answers', [q, text]) for q in QUESTIONS)
  )
  tokenizer = mb.MobileBertTokenizer.from_pretrained(str(site / 'answers'))
  expected = ours(
    site,
    'question-answering',
    'answers',
    list(QUESTIONS),
    text,
    max_answer_len=LENGTH,
    align_to_words=False,
  )
  for result, wanted in zip(results, expected, strict=True):
    assert result['score'] == close(wanted['score'])
    ids = tokenizer(wanted['answer'], add_special_tokens=False)['input_ids']
    assert result['answer'] == tokenizer.decode(ids)


def test_labels_of_the_page(site):
  calls = [
    *(('classify', 'labels', [text]) for text in TEXTS),
    ('classify', 'labels', [*PAIRED.values()]),
    ('classify', 'several', [TEXTS[0]]),
    ('classify', 'number', [TEXTS[0]]),
    ('classify', 'labels', [TEXTS[0], STORY]),
    ('classify', 'labels', [STORY, STORY.upper()]),
    ('classify', 'labels', [STORY]),
  ]
  results = in_node(site, *calls)
  expected = [
    *ours(site, 'text-classification', 'labels', [*TEXTS, PAIRED], top_k=None),
    ours(site, 'text-classification', 'several', TEXTS[0], top_k=None),
    ours(site, 'text-classification', 'number', TEXTS[0], top_k=None),
    *ours(
      site,
      'text-classification',
      'labels',
      [
        {'text': TEXTS[0], 'text_pair': STORY},
        {'text': STORY, 'text_pair': STORY.upper()},
        STORY,
      ],
      top_k=None,
      truncation=True,
    ),
  ]
  for result, wanted in zip(results, expected, strict=True):
    check_labels(result['labels'], wanted)
  assert [r['isProbability'] for r in results[-5:-2]] == [True, False, True]
  assert results[-1]['read'] == LENGTH < results[-1]['tokens']
  assert results[0]['read'] == results[0]['tokens'] < LENGTH


def test_guesses_of_the_page(site):
  several = 'The [MASK] in [MASK] was good.'
  results = in_node(
    site,
    ('fillMask', 'words', [MASKED[0]]),
    ('fillMask', 'words', [several, 3]),
    ('fillMask', 'words', ['No gap.']),
    ('fillMask', 'words', [f'[MASK] {STORY}']),
  )
  check_guesses(
    results[0][0], ours(site, 'fill-mask', 'words', MASKED[0]), 'word'
  )
  expected = ours(site, 'fill-mask', 'words', several, top_k=3)
  for result, wanted in zip(results[1], expected, strict=True):
    check_guesses(result, wanted, 'word')
  assert '[MASK]' in results[2]['problem']
  assert f'the model reads {LENGTH}' in results[3]['problem']


def test_answers_of_the_page(site):
  # The last two are read in several parts.
  texts = (*TEXTS, STORY, ' '.join([STORY, *TEXTS, STORY.upper()]))
  cases = [
    (question, text, longest)
    for question in QUESTIONS
    for text in texts
    for longest in (1, 4, 30)
  ]
  results = in_node(site, *(('answer', 'answers', [*case]) for case in cases))
  model = str(site.parent / 'models/answers')
  answers = pipeline('question-answering', model)
  for (question, text, longest), result in zip(cases, results, strict=True):
    wanted = answers(question, text, max_answer_len=longest)
    assert result['answer'] == wanted['answer'], (question, text, longest)
    assert result['score'] == close(wanted['score'])
    # JavaScript counts in units of UTF-16.
    before = text.encode('utf-16-le')[: 2 * result['start']]
    assert len(before.decode('utf-16-le')) == wanted['start']
  assert len({result['answer'] for result in results}) > len(texts)


def test_score_of_no_answer(site):
  pairs = [(QUESTIONS[0], TEXTS[0]), (QUESTIONS[0], STORY)]
  results = in_node(site, *(('answer', 'answers', [*p]) for p in pairs))
  for pair, result in zip(pairs, results, strict=True):
    answers = ours(
      site,
      'question-answering',
      'answers',
      *pair,
      top_k=LENGTH**2,
      handle_impossible_answer=True,
    )
    (wanted,) = [a['score'] for a in answers if not a['answer']]
    assert result['nullScore'] == close(wanted)


def test_too_long_a_question(site):
  (result,) = in_node(site, ('answer', 'answers', [STORY, STORY]))
  assert 'leaves no room for the text' in result['problem']


def test_labels_in_chromium(site):
  steps = [
    {'choose': ['#file', 'fp32']},
    *(
      {'type': {'#classify-text': text}, 'submit': '#classify'}
      for text in TEXTS
    ),
    {'choose': ['#file', 'q8']},
    {'submit': '#classify'},
  ]
  (visit,) = in_chromium(site, ('model=labels', steps))
  assert visit['files'] == ['q8', 'fp32']
  expected = ours(site, 'text-classification', 'labels', TEXTS, top_k=None)
  *floats, integers = [seen['scores'] for seen in visit['shown']]
  for result, wanted in zip(floats, expected, strict=True):
    check_labels(result, wanted)
  # Another file, which says nearly the same.
  assert integers != floats[-1]
  named = {row['label']: row['score'] for row in integers}
  for row in floats[-1]:
    assert named[row['label']] == pytest.approx(row['score'], abs=0.1)


def test_answer_is_marked_in_chromium(site):
  steps = [
    {'type': {'#answer-text': STORY}},
    *(
      {'type': {'#answer-question': question}, 'submit': '#answer'}
      for question in QUESTIONS
    ),
  ]
  (visit,) = in_chromium(site, ('model=answers', steps))
  expected = ours(
    site,
    'question-answering',
    'answers',
    list(QUESTIONS),
    STORY,
    max_answer_len=30,
  )
  for seen, wanted in zip(visit['shown'], expected, strict=True):
    assert seen['marked'] == wanted['answer']
    assert seen['text'] == STORY
    assert seen['score'] == close(wanted['score'])


def test_gap_is_filled_in_chromium(site):
  fill = {'type': {'#fill-mask-text': MASKED[0]}, 'submit': '#fill-mask'}
  wrong = {'type': {'#fill-mask-text': 'No gap.'}, 'submit': '#fill-mask'}
  (visit,) = in_chromium(site, ('model=words', [fill, wrong, fill]))
  first, problem, again = visit['shown']
  expected = ours(site, 'fill-mask', 'words', MASKED[0])
  check_guesses(first['scores'], expected, 'label')
  assert problem['problem'] == 'Put [MASK] where a word is to be guessed.'
  assert again['scores'] == first['scores'] and not again['problem']


def test_page_says_what_is_missing(site):
  empty, weightless, tags = in_chromium(
    site, ('model=empty', []), ('model=weightless', []), ('model=tags', [])
  )
  command = 'python -m mobilebert_jax.export --model=RUN --format=onnx '
  assert empty['problem'].startswith('There is no model: empty/ must hold ')
  assert weightless['problem'].startswith('The model has no weights: weightl')
  for visit in (empty, weightless):
    assert 'onnx/model.onnx' in visit['problem']
    assert command in visit['problem']
  assert 'tags/ holds MobileBertForTokenClassification' in tags['problem']


def test_page_without_its_packages(site, tmp_path):
  bare = tmp_path / 'bare'
  shutil.copytree(
    site,
    bare,
    ignore=shutil.ignore_patterns('vendor', 'node_modules'),
  )
  (bare / 'node_modules').symlink_to((site / 'node_modules').resolve())
  (visit,) = in_chromium(bare, ('model=labels', []))
  assert visit['problem'].startswith('vendor/ is incomplete: run npm install')


def test_versions_are_exact():
  package = json.loads((javascript_client.PAGE / 'package.json').read_text())
  lock = json.loads((javascript_client.PAGE / 'package-lock.json').read_text())
  for kind in ('dependencies', 'devDependencies'):
    assert package[kind] == lock['packages'][''][kind]
    for name, version in package[kind].items():
      assert lock['packages'][f'node_modules/{name}']['version'] == version
