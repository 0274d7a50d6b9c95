"""Files of tagging data sets, as their authors publish them."""

from mobilebert_jax.config.run import DataConfig

WNUT = 'Empire\tB-location\nState\tI-location\n=\tO\n\t\nESB\tB-location\n\n'

FILES = {
  'conll2003': ('eng.train', 'eng.testa', 'eng.testb'),
  'wnut17': (
    'wnut17train.conll',
    'emerging.dev.conll',
    'emerging.test.annotated',
  ),
}


def write(folder, name, text, names=None):
  """The same text for every split of a data set."""
  folder.mkdir(parents=True, exist_ok=True)
  data = text if isinstance(text, bytes) else text.encode()
  for file in names or FILES[name]:
    (folder / file).write_bytes(data)
  return DataConfig(source='files', path=str(folder))
