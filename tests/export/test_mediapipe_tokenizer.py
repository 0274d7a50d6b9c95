"""MediaPipe's tokenizer; the real one is compared in `test_mediapipe`."""

import pytest

from mobilebert_jax.export import mediapipe_tokenizer
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support import mediapipe_texts

TOKENIZER = MobileBertTokenizerFast(mediapipe_texts.VOCABULARY)


@pytest.mark.parametrize('text', mediapipe_texts.DIFFERENT)
def test_texts_that_it_reads_otherwise(text):
  assert mediapipe_tokenizer.differs(TOKENIZER, text)


@pytest.mark.parametrize('text', mediapipe_texts.SAME)
def test_texts_that_it_reads_alike(text):
  assert not mediapipe_tokenizer.differs(TOKENIZER, text)


def test_long_texts_are_cut_before_the_last_token():
  text = ' '.join(mediapipe_texts.WORDS)
  ids = mediapipe_tokenizer.encode(TOKENIZER.get_vocab(), text, 9)
  assert ids == TOKENIZER(text, truncation=True, max_length=9)['input_ids']
  assert not mediapipe_tokenizer.differs(TOKENIZER, text)


def test_a_cased_model_is_never_read_right():
  cased = MobileBertTokenizerFast(
    mediapipe_texts.VOCABULARY, do_lower_case=False
  )  # fmt: skip
  assert mediapipe_tokenizer.differs(cased, 'The film')
  assert not mediapipe_tokenizer.differs(cased, 'the film')
