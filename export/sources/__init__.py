"""What is exported: modules, factories, diffusers folders."""
