"""The emulator process: stdlib, Pulser and the emulators only; runs under another interpreter than the daemon."""
