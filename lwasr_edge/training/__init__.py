"""Training: a frozen reference teaches light students, which are then adapted. Needs the extra ``train``."""
