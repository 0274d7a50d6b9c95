import pytest

from mobilebert_jax.data.examples.chunks import in_chunks, room_for_text
from mobilebert_jax.runtime.errors import InputError


@pytest.mark.parametrize('count', [0, 1, 1000, 1001, 2500])
def test_chunks_cover_all_examples_in_their_order(count):
  told = []
  seen = []
  for start, chunk in in_chunks(range(count), lambda *x: told.append(x)):
    assert start == len(seen)
    # Progress counts what is done, not what is about to be.
    assert told[-1:] == [(start, count)] * bool(start)
    seen += chunk
  assert seen == list(range(count))
  assert told[-1:] == [(count, count)] * bool(count)


def test_chunks_need_no_listener():
  assert [start for start, _ in in_chunks('x' * 1500, None)] == [0, 1000]


def test_room_is_what_special_tokens_leave():
  assert room_for_text(128, special=3) == 125
  assert room_for_text(5, special=3, least=2) == 2


@pytest.mark.parametrize(('length', 'least'), [(3, 1), (4, 2)])
def test_too_little_room_is_refused(length, least):
  with pytest.raises(InputError) as error:
    room_for_text(length, special=3, least=least)
  assert str(error.value) == (
    f'config.data.max_length is {length}, but 3 places go to special tokens; '
    f'use at least {3 + least}.'
  )
