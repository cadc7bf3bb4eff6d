"""The policy of ``toys`` with other weights: of the same form, and wrong."""

import torch
import toys


def policy():
    """A factory, as the command line takes it."""
    module, spec, decoder = toys.build("policy")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.1)
    return module, spec, decoder
