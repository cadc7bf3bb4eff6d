"""The model that Triton's Python backend runs: one service per instance.

``execute`` takes a request and returns at once; its response is sent when the samples are there.
So an instance has many requests at a time, and they share every network call. Triton 24.06 was the
first to let a model answer so (response senders outside of decoupled models).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from revstep.engine.errors import (
    ArgumentError,
    DeadlineError,
    ProgramError,
    QueueFullError,
    ServiceClosedError,
)
from revstep.engine.open.bundle import load
from revstep.engine.service.job import Job
from revstep.engine.service.service import Service
from revstep.serve.triton.settings import Settings
from revstep.serve.triton.tensors import arguments, outputs

log = logging.getLogger("revstep")

LOOK_S = 0.1  # between two looks at who has cancelled
DRAIN_S = 20.0  # less than the 30 s that Triton waits for its own exit
REPLIES = 4  # threads that send responses, off the service's own
CODES = (
    (ArgumentError, "INVALID_ARG"),
    (ProgramError, "INVALID_ARG"),
    (QueueFullError, "UNAVAILABLE"),
    (ServiceClosedError, "UNAVAILABLE"),
    (DeadlineError, "UNAVAILABLE"),
    (CancelledError, "CANCELLED"),
)


class SamplingModel:
    """What model.py in a repository makes its ``TritonPythonModel`` of.

    Attributes:
        folder: The folder of the model's version.
        triton: The module ``triton_python_backend_utils``, which only Triton's process has.
        service: The service, from ``initialize`` on.
    """

    folder: ClassVar[Path]
    triton: ClassVar[Any]
    service: Service

    def initialize(self, args: Mapping[str, str]) -> None:
        """Opens the bundle; the model is ready when it returns.

        Args:
            args: Triton's: the configuration as JSON, and the instance's device.

        Raises:
            ArgumentError: A parameter that is not allowed.
            BundleError, BackendError: The bundle can't be run here.
            RuntimeError: This Triton can't pass arrays of the NumPy that is installed.
        """
        self._check_numpy()
        self._settings = settings = Settings.of(json.loads(args["model_config"]))
        gpu = args.get("model_instance_kind") == "GPU"
        engine = load(
            self.folder / settings.bundle,
            backend=settings.backend,
            device=f"cuda:{args['model_instance_device_id']}" if gpu else "cpu",
            precision=settings.precision,
            threads=settings.threads,
        )
        self.service = Service(
            engine,
            slots=settings.slots,
            max_queue=settings.max_queue,
            deterministic=settings.deterministic,
        )
        self._outputs = [tensor.name for tensor in outputs(engine.spec)]
        self._open: dict[Job, Any] = {}  # job -> where its response goes
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._replies = ThreadPoolExecutor(REPLIES, "revstep-reply")
        self._watch = threading.Thread(target=self._cancel_left, name="revstep-cancel", daemon=True)
        self._watch.start()

    def execute(self, requests: Iterable[Any]) -> None:
        """Queues the requests; each is answered later, or at once where it is refused."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._submit(request, sender)
            except Exception as error:  # whatever it is, its caller must get an answer
                self._send(sender, self._error(error))

    def finalize(self) -> None:
        """Answers what it has, and closes."""
        if hasattr(self, "service"):
            self.service.drain(DRAIN_S)
            self.service.close()
            self._replies.shutdown()
            self._closed.set()
            self._watch.join()

    def _submit(self, request: Any, sender: Any) -> None:
        # Triton takes this memory back when ``execute`` returns; what waits is ``submit``'s copy
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        wanted = request.requested_output_names() or self._outputs
        limits = (self._settings.max_samples, self._settings.max_steps)
        found = arguments(given, *limits, self.service.engine.spec.default_sampler)
        job = self.service.submit(**found, decode="samples" in wanted)
        with self._lock:
            self._open[job] = sender
        job.add_done_callback(lambda done: self._replies.submit(self._reply, done, wanted))

    def _reply(self, job: Any, wanted: Iterable[str]) -> None:
        with self._lock:  # from here on nobody looks at the sender, which ends with its response
            sender = self._open.pop(job)
        try:
            samples = job.result()
            found = {
                "samples": samples.numpy(),
                "states": samples.x,
                "seeds": samples.seeds,
                "calls": np.array([samples.calls], np.int32),
            }
            tensors = [
                self.triton.Tensor(name, np.ascontiguousarray(found[name]))
                for name in self._outputs
                if name in wanted
            ]
            response = self.triton.InferenceResponse(tensors)
        except (Exception, CancelledError) as error:  # as above
            response = self._error(error)
        self._send(sender, response)

    def _send(self, sender: Any, response: Any) -> None:
        try:
            sender.send(response, flags=self.triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:  # on a thread of ours nobody else would say it
            log.exception("a response could not be sent")

    def _error(self, error: BaseException) -> Any:
        kind = self.triton.TritonError
        code = next((name for cls, name in CODES if isinstance(error, cls)), "INTERNAL")
        text = str(error) or type(error).__name__
        return self.triton.InferenceResponse(error=kind(text, getattr(kind, code)))

    def _cancel_left(self) -> None:
        """Cancels the jobs whose callers have cancelled; over gRPC they can."""
        while not self._closed.wait(LOOK_S):
            for job in list(self._open):
                with self._lock:
                    left = job in self._open and self._open[job].is_cancelled()
                if left:
                    job.cancel()

    def _check_numpy(self) -> None:
        """Refuses a NumPy whose arrays this Triton misreads, with no word of its own."""
        tensor, sent = self.triton.Tensor, np.arange(3, dtype=np.int32)
        # one made of DLPack is read as one of a request: it keeps no array of NumPy's
        if not np.array_equal(tensor.from_dlpack("b", tensor("a", sent)).as_numpy(), sent):
            raise RuntimeError(
                f"this Triton's Python backend was built for NumPy 1, and NumPy {np.__version__} "
                "is installed: take Triton 24.11 or later, or pip install 'numpy<2' in its "
                "environment"
            )
