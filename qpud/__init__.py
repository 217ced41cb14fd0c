"""qpud: the scheduler between a batch system and a quantum processor."""

__version__ = "0.1.0"
