"""What we write transformers reads, and the other way round (live)."""

import copy
import os
import pickle

import jax
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from mobilebert_jax import models
from mobilebert_jax.config import model_json
from mobilebert_jax.convert import __main__ as command
from mobilebert_jax.convert import mapping
from mobilebert_jax.convert.formats import torch_bin
from mobilebert_jax.convert.pretrained import (
  load_pretrained,
  resize_token_embeddings,
  save_pretrained,
)
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from tests.support.convert_models import (
  BATCH,
  CLASSES,
  FLAGS,
  assert_same_bits,
  random_params,
  tiny,
  tiny_config,
)

pytestmark = [
  pytest.mark.parity,
  # torch's remark on the decoder's empty rest where all widths are equal.
  pytest.mark.filterwarnings('ignore:Initializing zero-element tensors'),
]
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

PRETRAINING = models.MobileBertForPreTraining
# transformers sizes queries and keys wrongly for it, as does its forward pass.
CANNOT_HOLD = {'key_query_shared_bottleneck': False}
CASES = [
  *((cls, {}) for cls in CLASSES),
  *((PRETRAINING, flags) for flags in FLAGS[1:] if flags != CANNOT_HOLD),
]


def _id(value):
  if isinstance(value, type):
    return value.__name__
  return ','.join(f'{k}={v}' for k, v in value.items()) or 'default'


def _reference(cls, directory):
  """The transformers model in a directory, and what its loading reported."""
  model, info = getattr(transformers, cls.__name__).from_pretrained(
    directory, output_loading_info=True, attn_implementation='eager'
  )
  return model.eval(), info


def _random_reference(cls, seed=0, **flags):
  """A transformers model with varied weights everywhere."""
  config = model_json.to_dict(tiny_config(**flags))
  torch.manual_seed(seed)
  model = getattr(transformers, cls.__name__)(
    transformers.MobileBertConfig(**config, attn_implementation='eager')
  )
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.normal_(0.2, 0.3)
  return model.eval()


def _batch(cls):
  if cls is models.MobileBertForMultipleChoice:
    return {name: x[None] for name, x in BATCH.items()}
  return BATCH


def _assert_computes_the_same(cls, model, params, reference):
  """In float64, where a wrong weight cannot hide behind rounding."""
  batch = _batch(cls)
  with jax.enable_x64(True):
    exact = model.clone(compute=models.Compute(dtype='float64'))
    ours = jax.jit(lambda p: exact.apply({'params': p}, **batch))(params)
    ours = jax.tree.map(np.asarray, ours)
  with torch.no_grad():
    theirs = copy.deepcopy(reference).double()(
      **{name: torch.tensor(x, dtype=torch.long) for name, x in batch.items()}
    )
  assert len(theirs)
  for name, value in theirs.items():
    wanted = value.numpy()
    difference = np.abs(getattr(ours, name) - wanted).max()
    assert difference <= 1e-9 * np.abs(wanted).max(), name


def _assert_clean(info):
  assert not any(info.values()), info


@pytest.mark.parametrize(('cls', 'flags'), CASES, ids=_id)
def test_transformers_loads_ours(cls, flags, tmp_path):
  model, params = tiny(cls, **flags)
  if flags.get('hidden_act') == 'xielu':
    params = _as_transformers_keeps_xielu(params)
  save_pretrained(tmp_path / 'm', model, params)
  reference, info = _reference(cls, tmp_path / 'm')
  _assert_clean(info)
  _assert_computes_the_same(cls, model, params, reference)
  reference.save_pretrained(tmp_path / 'again')
  back = load_pretrained(cls, tmp_path / 'again')
  assert back.report == mapping.LoadReport()
  assert back.model == model
  assert_same_bits(back.params, params)


def _as_transformers_keeps_xielu(params):
  """Rounds the activation's parameters: it has them in bfloat16 alone."""
  flat = flatten_dict(params, sep='/')
  for path, value in flat.items():
    if '/activation/' in path:
      flat[path] = value.astype(ml_dtypes.bfloat16).astype(np.float32)
  return unflatten_dict(flat, sep='/')


@pytest.mark.parametrize('format', ['safetensors', 'bin'])
@pytest.mark.parametrize('cls', CLASSES, ids=_id)
def test_we_load_transformers(cls, format, tmp_path):
  reference = _random_reference(cls)
  if format == 'safetensors':
    reference.save_pretrained(tmp_path)
  else:
    reference.config.save_pretrained(tmp_path)
    torch.save(reference.state_dict(), tmp_path / 'pytorch_model.bin')
  model, params, report = load_pretrained(cls, tmp_path)
  assert report == mapping.LoadReport()
  _assert_computes_the_same(cls, model, params, reference)


def test_state_dicts_have_the_same_names_and_shapes(tmp_path):
  reference = _random_reference(PRETRAINING)
  model, params = tiny()
  save_pretrained(tmp_path, model, params, format='bin')
  ours = torch.load(tmp_path / 'pytorch_model.bin', weights_only=True)
  theirs = reference.state_dict()
  assert {n: t.shape for n, t in ours.items()} == {
    n: t.shape for n, t in theirs.items()
  }


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('size', ['5GB', '6KB'])
def test_bin_files_survive(size, dtype, tmp_path):
  model, params = tiny(dtype=dtype)
  save_pretrained(tmp_path, model, params, format='bin', max_shard_size=size)
  assert len(list(tmp_path.glob('*.bin'))) == 1 or size == '6KB'
  loaded = load_pretrained(PRETRAINING, tmp_path, param_dtype='auto')
  assert_same_bits(loaded.params, params)
  _assert_clean(_reference(PRETRAINING, tmp_path)[1])


def test_sharded_safetensors_load_in_transformers(tmp_path):
  model, params = tiny()
  save_pretrained(tmp_path, model, params, max_shard_size='6KB')
  reference, info = _reference(PRETRAINING, tmp_path)
  _assert_clean(info)
  _assert_computes_the_same(PRETRAINING, model, params, reference)


def test_we_load_shards_of_transformers(tmp_path):
  reference = _random_reference(PRETRAINING)
  reference.save_pretrained(tmp_path, max_shard_size='10KB')
  assert len(list(tmp_path.glob('model-*.safetensors'))) > 1
  model, params, _ = load_pretrained(PRETRAINING, tmp_path)
  _assert_computes_the_same(PRETRAINING, model, params, reference)


class _Payload:
  """Unpickling it creates a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (os.mkdir, (self.path,))


def test_bin_that_would_run_code_is_refused(tmp_path, capsys):
  source, mark = tmp_path / 'evil', tmp_path / 'ran'
  source.mkdir()
  model_json.save_config(tiny_config(), source)
  state = {'classifier.bias': torch.zeros(2), 'x': _Payload(str(mark))}
  torch.save(state, source / 'pytorch_model.bin')
  with pytest.raises(InputError, match='could run code'):
    load_pretrained(PRETRAINING, source)
  (source / 'pytorch_model.bin').write_bytes(
    pickle.dumps(_Payload(str(mark)), protocol=2)
  )
  with pytest.raises(InputError, match='could run code'):
    load_pretrained(PRETRAINING, source)
  assert (
    exit_status.run(
      command.main, ['convert', str(source), str(tmp_path / 'out')]
    )
    == 2
  )
  assert 'could run code' in capsys.readouterr().err
  assert not mark.exists()
  assert not (tmp_path / 'out').exists()


def test_wrong_bin_files_are_refused(tmp_path):
  path = tmp_path / 'pytorch_model.bin'
  with pytest.raises(InputError, match='does not exist'):
    torch_bin.read(path)
  torch.save({'a': torch.zeros(2), 'b': 3}, path)
  with pytest.raises(InputError, match='no state dict'):
    torch_bin.read(path)
  torch.save({'a': torch.zeros(1000)}, path)
  path.write_bytes(path.read_bytes()[:2000])
  with pytest.raises(InputError, match=r'no intact torch file|could run code'):
    torch_bin.read(path)
  path.write_bytes(b'')
  with pytest.raises(InputError, match='no intact torch file'):
    torch_bin.read(path)


@pytest.mark.parametrize('size', [50, 75])
def test_resized_vocabularies_have_the_reference_sizes(size, tmp_path):
  reference = _random_reference(PRETRAINING)
  reference.save_pretrained(tmp_path / 'm')
  model, params, _ = load_pretrained(PRETRAINING, tmp_path / 'm')
  reference.resize_token_embeddings(size)
  resized, new = resize_token_embeddings(model, params, size)
  assert resized.config.vocab_size == reference.config.vocab_size
  head = reference.cls.predictions
  flat = flatten_dict(new, sep='/')
  table = flat['mobilebert/embeddings/word_embeddings/embedding']
  assert table.shape == tuple(head.decoder.weight.shape)
  assert flat['predictions/dense/kernel'].shape == tuple(
    head.dense.weight.shape
  )
  save_pretrained(tmp_path / 'new', resized, new)
  loaded, info = _reference(PRETRAINING, tmp_path / 'new')
  _assert_clean(info)
  _assert_computes_the_same(PRETRAINING, resized, new, loaded)
  if size == 50:
    # Nothing was drawn: the two must be equal.
    np.testing.assert_array_equal(table, head.decoder.weight.detach())
    np.testing.assert_array_equal(
      flat['predictions/dense/kernel'], head.dense.weight.detach()
    )


def test_bfloat16_reaches_transformers_unchanged(tmp_path):
  model = PRETRAINING(tiny_config())
  params = random_params(model, dtype='bfloat16')
  save_pretrained(tmp_path, model, params)
  reference = transformers.MobileBertForPreTraining.from_pretrained(
    tmp_path, dtype='auto'
  )
  assert reference.dtype == torch.bfloat16
  word = params['mobilebert']['embeddings']['word_embeddings']['embedding']
  theirs = reference.mobilebert.embeddings.word_embeddings.weight.detach()
  np.testing.assert_array_equal(theirs.float().numpy(), word.astype(np.float32))


def test_transformers_keeps_what_a_run_says_about_its_use(tmp_path):
  """The rules for questions pass through its config unread and unchanged."""
  usage = {'question-answering': {'doc_stride': 128, 'n_best': 20}}
  cls = models.MobileBertForQuestionAnswering
  model, params = tiny(cls)
  config = model.config.replace(task_specific_params=usage)
  save_pretrained(tmp_path / 'ours', model.clone(config=config), params)
  reference = transformers.MobileBertForQuestionAnswering.from_pretrained(
    tmp_path / 'ours'
  )
  assert reference.config.task_specific_params == usage
  reference.save_pretrained(tmp_path / 'theirs')
  assert model_json.load_config(tmp_path / 'theirs') == config
