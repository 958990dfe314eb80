"""Emu2, Emu2-Chat and Emu2-Gen (arXiv 2312.13286), run natively: no remote code, no patched library."""
