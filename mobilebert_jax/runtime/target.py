"""For what a program that is traced now will be compiled."""

import jax


def device_kind() -> str:
  """Returns the kind of device in lower case, such as 'cpu' or 'tpu v5 lite'.

  That of the mesh that is set, which may be only compiled for; else that of
  JAX's default device.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  if device is None:
    return jax.devices()[0].device_kind.lower()
  return device.device_kind.lower()


def platform() -> str:
  """Returns 'cpu', 'gpu' or 'tpu', for what `device_kind` names."""
  name = device_kind()
  if name.startswith('tpu'):
    return 'tpu'
  return 'cpu' if name == 'cpu' else 'gpu'
