"""Two runs or many: what can be compared, paired differences, what the demonstrations bring."""
