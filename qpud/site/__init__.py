"""Slurm, munge, peer credentials: the only place that talks to the operating system's identity."""
