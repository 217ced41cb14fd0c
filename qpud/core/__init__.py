"""The mind of qpud: pure functions and values. No I/O, no clock, no asyncio, no logging."""
