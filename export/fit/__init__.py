"""How well a spec fits a module, measured on true samples, and which specs fit best."""
