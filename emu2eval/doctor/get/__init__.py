"""`emu2eval data get`: brings the data of a task, resumably, checked, and into place as a whole."""
