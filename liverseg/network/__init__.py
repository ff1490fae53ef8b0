"""The network, its training and its prediction: the only importer of torch.

No store, no clock of the race and no command line in here; what a training reads and writes
comes in as values and callbacks.
"""
