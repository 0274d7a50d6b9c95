"""TFRecords by their definition, byte by byte."""

import struct


def crc32c(data):
  """Castagnoli's CRC bit by bit: reflected polynomial 0x82F63B78."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


def masked(data):
  """The CRC as it is stored: rotated and shifted."""
  crc = crc32c(data)
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(payload):
  """One record: length, its CRC, payload, its CRC."""
  length = struct.pack('<Q', len(payload))
  return b''.join(
    (length, struct.pack('<I', masked(length)),
     payload, struct.pack('<I', masked(payload)))
  )  # fmt: skip
