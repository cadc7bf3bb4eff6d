"""The commands of ``revstep``, one a file. Heavy packages are imported inside them."""
