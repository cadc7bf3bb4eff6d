"""One measurement of ``revstep bench``: its cell, its rounds, and what is reported of them."""
