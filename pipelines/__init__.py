"""KFP pipelines: how the components follow each other, nothing else."""
