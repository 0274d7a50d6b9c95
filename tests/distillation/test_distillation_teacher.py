"""Which teachers fit: layers, sizes, copied parts, meshes; and comparisons."""

import jax
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.config.distillation import COPIED
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.distillation import agreement, teacher
from mobilebert_jax.distillation.method import DISTILLATION
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.tpu_compile import distillation
from mobilebert_jax.training import environment, mesh, setup
from mobilebert_jax.training.workdir import Workdir
from tests.support import distilling, one_device

SOFT_LABELS = {'strategy': 'none', 'transfer_steps': 0}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  return distilling.write(tmp_path_factory.mktemp('teacher'))


def model_of(head=models.MobileBertForMaskedLM, **student):
  return head(MobileBertConfig(**distilling.STUDENT | student))


def test_soft_labels_map_no_layers(place):
  """A student may have more of them than its teacher."""
  config = distilling.config(place, distillation=SOFT_LABELS)
  task = setup.find_task(config)
  tokenizer = MobileBertTokenizerFast(place / 'vocab.txt')
  deep = model_of(num_hidden_layers=8)
  found = teacher.load(config, task, deep, tokenizer)
  assert found.layers == ()
  theirs = MobileBertConfig(**distilling.TEACHER)
  assert distillation.make_pair(config, task, deep, theirs).teacher_layers == ()
  config = distilling.config(place)
  with pytest.raises(InputError, match='a layer has nothing to learn from'):
    teacher.load(config, task, deep, tokenizer)


def run_of(place, workdir, config, **student):
  """A run that has a model, though nothing has been trained."""
  model = model_of(**student)
  params = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype), models.abstract_params(model)
  )
  tokenizer = MobileBertTokenizerFast(place / 'vocab.txt')
  found = Workdir(workdir)
  found.start(config, model, tokenizer, {}, environment.record())
  save_pretrained(found.model, model, params, tokenizer)
  return found


@pytest.mark.parametrize(
  ('student', 'message'),
  [
    ({'num_hidden_layers': 8}, 'the student has 8 layers and its teacher 4'),
    ({'hidden_size': 32}, 'hidden_size is 32 in the student and 16 in its'),
    ({'num_attention_heads': 4}, 'num_attention_heads is 4 in the student'),
  ],
  ids=['layers', 'width', 'heads'],
)
@pytest.mark.parametrize('own', [True, False], ids=['soft labels', 'alone'])
def test_models_whose_layers_cannot_be_compared(
  own, student, message, place, tmp_path
):
  """For soft labels they need not be alike; a run may have no teacher."""
  more = {} if own else {'teacher': None}
  config = distilling.config(place, distillation=SOFT_LABELS | more)
  run = run_of(place, tmp_path / 'run', config, **student)
  name = None if own else str(place / 'teacher')
  with one_device.used(), pytest.raises(InputError, match=message):
    agreement.of_run(run, name)


def test_layers_of_a_multiple_choice_run_are_not_compared(place, tmp_path):
  config = distilling.config(
    place, task='swag', options={}, distillation=SOFT_LABELS
  )
  run = run_of(
    place, tmp_path / 'run', config, head=models.MobileBertForMultipleChoice
  )
  with one_device.used(), pytest.raises(InputError, match='single texts alone'):
    agreement.of_run(run)


def test_what_a_teacher_has_not_is_copied_only_if_it_is_asked_for():
  """Masked words can be taught to a student of next sentences as well."""
  student = model_of(models.MobileBertForPreTraining)
  theirs = models.abstract_params(
    models.MobileBertForMaskedLM(MobileBertConfig(**distilling.TEACHER))
  )
  found = teacher.copied_shapes(theirs, student, COPIED, 'x')
  assert {path.split('/')[0] for path in found} == {'mobilebert', 'predictions'}
  parts = ('word_embeddings', 'next_sentence_head')
  with pytest.raises(InputError, match=r'next_sentence_head, but .* no '):
    teacher.copied_shapes(theirs, student, parts, 'x')


def test_padding_does_not_count_in_packed_batches(place):
  config = distilling.config(
    place, distillation={'count_padding': True},
    data={'source': 'files', 'path': 'x', 'batching': 'packed',
          'max_length': 12},
  )  # fmt: skip
  student, theirs = (
    MobileBertConfig(**sizes)
    for sizes in (distilling.STUDENT, distilling.TEACHER)
  )
  task = setup.find_task(config)
  with pytest.raises(InputError, match=r"False with .* 'packed'"):
    teacher.check(config, task, student, theirs)


def test_a_mesh_that_does_not_divide_the_teachers_heads(place, tmp_path):
  """Told before the workdir is written; the student's are more here."""
  config = distilling.config(
    place, mesh={'tensor': 4}, distillation=SOFT_LABELS,
    model=distilling.STUDENT | {'num_attention_heads': 4},
  )  # fmt: skip
  message = "config.mesh.tensor is 4, .* 2 attention heads .the teacher's"
  with pytest.raises(InputError, match=message):
    setup.build(config, Workdir(tmp_path / 'run'), False, DISTILLATION)
  assert not (tmp_path / 'run').exists()
  model = models.MobileBertForMaskedLM(MobileBertConfig(**distilling.TEACHER))
  with pytest.raises(InputError, match='num_attention_heads'):
    teacher.abstract(model, mesh.make_mesh(tensor=4), 'replicated')
