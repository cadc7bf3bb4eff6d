"""A runtime like ONNX Runtime, of which a line can go wrong; only candidates' processes know it."""

FAKE = """
import os, signal, sys, time
from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.backends.registry import BACKENDS, Backend

class Fake(OrtDenoiser):
    def describe(self):
        return {{**super().describe(), "backend": "openvino", "version": "9.9"}}

    def bind(self, buffers):
        run = super().bind(buffers)
        def call():
            run()
            {call}
        return call

def opened(wanted):
    {opened}
    return Fake(wanted.graph or wanted.bundle.graph("fp32"), wanted.bundle.spec,
                threads=wanted.threads)

BACKENDS["openvino"] = Backend("OpenVINO", on_cpu=opened)
"""

# ONNX Runtime itself gone wrong
BROKEN = """
from revstep.engine.backends.onnx_cpu import OrtDenoiser
OrtDenoiser.__init__ = lambda *a, **k: 1 / 0
"""


def put_fake(monkeypatch, call="pass", opened="pass"):
    """Puts the fake in OpenVINO's place, in the processes of candidates.

    ``call`` runs after every network call, ``opened`` before one is opened.
    """
    from revstep.export.targets.cpu import plan, process

    monkeypatch.setattr(plan, "installed", lambda: ["onnxruntime", "openvino"])
    monkeypatch.setattr(process, "MAIN", FAKE.format(call=call, opened=opened) + process.MAIN)
