import pathlib
import shutil

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training.checkpoint import Checkpoints, DamagedError
from mobilebert_jax.training.train_step import TrainState

TX = optax.adamw(1e-3)


def make_state(step, width=3):
  params = {
    'dense': {
      'kernel': jnp.full((4, width), step / 7),
      'half': jnp.full(5, step / 3, jnp.bfloat16),
    }
  }
  return TrainState(
    jnp.int32(step), params, TX.init(params), jax.random.key(step)
  )


def abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    state,
  )


def plain(state):
  return state.replace(key=jax.random.key_data(state.key))


def save(directory, steps, keep=2, **values):
  with Checkpoints(directory, keep) as checkpoints:
    for step in steps:
      checkpoints.save(make_state(step), {'number': step, **values})
    checkpoints.wait()
    return checkpoints.steps()


def test_a_state_comes_back_bit_for_bit(tmp_path):
  save(tmp_path, [5], note=['a', None])
  with Checkpoints(tmp_path) as checkpoints:
    state, values = checkpoints.restore(abstract(make_state(5)))
    params, _ = checkpoints.restore_params(abstract(make_state(5)))
  chex.assert_trees_all_equal(plain(state), plain(make_state(5)))
  chex.assert_trees_all_equal_dtypes(plain(state), plain(make_state(5)))
  chex.assert_trees_all_equal(params, state.params)
  assert values == {'number': 5, 'note': ['a', None]}
  assert jnp.issubdtype(state.key.dtype, jax.dtypes.prng_key)
  assert isinstance(state.opt_state[0], type(TX.init(params)[0]))


def test_a_state_can_go_to_another_mesh(tmp_path):
  save(tmp_path, [1])
  mesh = jax.make_mesh((2, 4), ('a', 'b'))
  place = jax.NamedSharding(mesh, jax.P())
  target = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    make_state(1),
  )
  with Checkpoints(tmp_path) as checkpoints:
    state, _ = checkpoints.restore(target)
  assert state.params['dense']['kernel'].sharding == place
  chex.assert_trees_all_equal(plain(state), plain(make_state(1)))


def test_the_newest_and_the_best_stay(tmp_path):
  assert save(tmp_path, range(1, 8), best_step=None) == [6, 7]
  assert save(tmp_path, [8, 9, 10], best_step=6) == [6, 9, 10]


def test_saving_a_step_again_changes_nothing(tmp_path):
  save(tmp_path, [3], note='old')
  assert save(tmp_path, [3], note='new') == [3]
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(abstract(make_state(3)))[1]['note'] == 'old'


def test_no_checkpoint_and_no_such_step(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(InputError, match='holds no checkpoint'):
      checkpoints.restore(abstract(make_state(1)))
  save(tmp_path, [4])
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(InputError, match='no checkpoint of step 9; it has: 4'):
      checkpoints.restore(abstract(make_state(1)), 9)


def data_files(directory: pathlib.Path):
  return [
    path
    for path in sorted(directory.rglob('*'))
    if path.is_file() and 'success' not in path.name
  ]


def damage_file(path: pathlib.Path, damage: str):
  content = path.read_bytes()
  if damage == 'remove':
    path.unlink()
  elif damage == 'flip':
    middle = len(content) // 2
    path.write_bytes(
      content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    )
  else:
    path.write_bytes(content[: len(content) // 2 * (damage != 'empty')])


@pytest.mark.parametrize('part', ['params', 'train_state', 'run_state'])
@pytest.mark.parametrize('damage', ['truncate', 'empty', 'remove', 'flip'])
def test_a_run_falls_back_to_the_newest_good_one(tmp_path, damage, part):
  save(tmp_path, [2, 4])
  damage_file(data_files(tmp_path / '4' / part)[-1], damage)
  target = abstract(make_state(4))
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(DamagedError, match=f'{tmp_path}/4 is damaged'):
      checkpoints.restore(target)
    assert checkpoints.steps() == [2, 4]
    state, values, damaged = checkpoints.restore_newest(target)
    assert (int(state.step), values) == (2, {'number': 2})
    assert len(damaged) == 1 and f'{tmp_path}/4/{part}/' in damaged[0]
    assert checkpoints.steps() == [2]
    # The step can be saved again.
    checkpoints.save(make_state(4), {'number': 4})
    checkpoints.wait()
    assert checkpoints.restore(target)[1] == {'number': 4}


def test_when_none_is_good_all_are_named_and_none_is_removed(tmp_path):
  save(tmp_path, [2, 4])
  for path in data_files(tmp_path):
    path.write_bytes(b'')
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(InputError) as error:
      checkpoints.restore_newest(abstract(make_state(2)))
    assert checkpoints.steps() == [2, 4]
  assert 'nothing has been removed' in str(error.value)
  assert f'{tmp_path}/2 ' in str(error.value)
  assert f'{tmp_path}/4 ' in str(error.value)


def test_another_model_is_no_damage(tmp_path):
  save(tmp_path, [2, 4])
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(InputError, match='4 is of another model'):
      checkpoints.restore_newest(abstract(make_state(4, width=6)))
    assert checkpoints.steps() == [2, 4]


def test_a_reader_leaves_a_save_alone(tmp_path):
  save(tmp_path, [2])
  unfinished = tmp_path / '4.orbax-checkpoint-tmp'
  unfinished.mkdir()
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    checkpoints.restore_params(abstract(make_state(2)))
  assert unfinished.exists()


def test_other_shapes_are_listed(tmp_path):
  save(tmp_path, [2])
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(InputError) as error:
      checkpoints.restore(abstract(make_state(2, width=6)))
  message = str(error.value)
  assert 'params/dense/kernel is (4, 3) float32 there' in message
  assert '(4, 6) float32 here' in message
  assert '\n' not in message


def test_what_a_kill_leaves_behind_does_no_harm(tmp_path):
  """A half-written new checkpoint, and a half-deleted old one."""
  save(tmp_path, [2, 4])
  unfinished = tmp_path / '6.orbax-checkpoint-tmp-123'
  shutil.copytree(tmp_path / '4', unfinished)
  data_files(unfinished)[0].unlink()
  shutil.rmtree(tmp_path / '2' / 'params')
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    state, _ = checkpoints.restore(abstract(make_state(4)))
    assert int(state.step) == 4
    checkpoints.save(make_state(6), {'number': 6})
    checkpoints.wait()
    assert checkpoints.steps() == [4, 6]
  assert not unfinished.exists()
