"""Reading configs and the files they name, safely; the shipped configs; what is installed."""
