include "entry.pyx"
