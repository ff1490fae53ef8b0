"""Where facts, volumes and checkpoints lie: one port, one adapter a kind of store."""
