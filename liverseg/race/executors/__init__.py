"""What runs trainers: local processes, Kubernetes Jobs, or a simulation in virtual time."""
