"""The commands of ``revstep``, one per file. Heavy packages are imported inside them."""
