"""What ``triton_python_backend_utils`` gives a model, in this process; memory is taken back."""

import threading

import numpy as np

TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1


class Tensor:
    def __init__(self, name, array):
        assert array.flags.c_contiguous
        self._name, self._array = name, array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array

    @classmethod
    def from_dlpack(cls, name, tensor):
        return cls(name, np.array(tensor.as_numpy()))


class TritonError:
    INVALID_ARG, UNAVAILABLE, INTERNAL, CANCELLED = range(1, 5)

    def __init__(self, message, code):
        self.message, self.code = message, code


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None):
        self.outputs = {t.name(): np.array(t.as_numpy()) for t in output_tensors}
        self.error = error


class Request:
    """One request, and the sender of its one response."""

    def __init__(self, outputs=(), **inputs):
        self.arrays = {name.replace("__", "."): array for name, array in inputs.items()}
        self.outputs = list(outputs)
        self.cancelled = False
        self.response = None
        self.answered = threading.Event()

    def inputs(self):
        return [Tensor(name, array) for name, array in self.arrays.items()]

    def requested_output_names(self):
        return self.outputs

    def get_response_sender(self):
        return self

    def is_cancelled(self):
        assert not self.answered.is_set()  # Triton's is gone by then
        return self.cancelled

    def send(self, response, flags):
        assert flags == TRITONSERVER_RESPONSE_COMPLETE_FINAL
        assert not self.answered.is_set()
        self.response = response
        self.answered.set()

    def release(self):
        """What Triton does when ``execute`` returns: another request has the memory."""
        for array in self.arrays.values():
            if array.dtype != object:
                array.fill(0)
