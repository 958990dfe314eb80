"""Parts for emu2eval that somebody else wrote: of emu2eval they know its public names alone."""
