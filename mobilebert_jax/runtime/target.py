"""For what a program that is traced now will be compiled."""

import jax


def platform() -> str:
  """Returns 'cpu', 'gpu' or 'tpu'.

  That of the mesh that is set, which may be only compiled for; else that of
  JAX's default device.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  if device is None:
    return jax.default_backend()
  name = device.device_kind.lower()
  if name.startswith('tpu'):
    return 'tpu'
  return 'cpu' if name == 'cpu' else 'gpu'
