"""The machine and its processes; nothing here loads jax when it is imported.

In the order in which to read:
  errors             what ends a command with one sentence
  exit_status        an error's sentence and exit status
  files              paths, and writing that is whole or not at all
  object_store       gs://, the one user of gcsfs
  local_copies       objects of gs:// as files, once for each machine
  hub                models by name: here, on gs://, or on the hub
  distributed        which process this is; several as one run
  peer_failure       what a process prints when another one is lost
  preemption         SIGTERM
  lock               one run at a time in a directory
  digests            whether files are as they were written
  compilation_cache  compiled programs kept for later starts
  requirements       packages of extras, loaded when they are needed
  progress           bars and lines for long work
"""
