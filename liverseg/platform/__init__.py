"""The machine and the cluster that a process runs on."""
