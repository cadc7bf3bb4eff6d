"""The models that a server has, and the requests that it works on."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from revstep.engine.errors import ArgumentError, RevstepError
from revstep.engine.nearest import unknown_names
from revstep.engine.program.samplers import SAMPLERS, resolve_sampler
from revstep.engine.program.samplers.choice import chosen_sampler
from revstep.engine.program.steps import default_steps
from revstep.engine.runtime.request import RAW
from revstep.engine.runtime.samples import picture_problem
from revstep.engine.service.job import Job
from revstep.engine.service.service import Service
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.grids import GRIDS
from revstep.engine.spec.sampler_choice import SamplerChoice
from revstep.serve.http.errors import Conflict, NotFound, NotReady
from revstep.serve.http.limits import Limits
from revstep.serve.http.schema import (
    ConditionReply,
    LimitsReply,
    ModelReply,
    SampleRequest,
)

log = logging.getLogger("revstep")

SEED_BITS = 53  # of drawn seeds: every JSON reader has such whole numbers
AS_GIVEN = (
    *("n", "steps", "guidance", "strength", "grid", "compat", "clip", "final", "decode"),
    *("start", "mask", "known", "noise", "conditions", "null_conditions"),
    *RAW,
    *("priority", "previews", "deadline_s"),
)
REPEATING = ("repeats", "corrections")  # of samplers: network calls for each step
Load = Callable[[], Mapping[str, Service]]


class Models:
    """Services by name, loaded in a thread of their own; and their jobs by id. Thread-safe.

    Args:
        services: Them, or what makes them.
        limits: What one request may ask for.
    """

    def __init__(self, services: Mapping[str, Service] | Load, limits: Limits) -> None:
        self._load = services if callable(services) else None
        self._services = {} if callable(services) else dict(services)
        self._failed: Exception | None = None
        self._jobs: dict[str, Job] = {}
        self._queueing: set[str] = set()  # ids of requests on their way to ``_jobs``
        self._lock = threading.Lock()
        self._draining = False
        self.limits = limits

    def load(self) -> None:
        """Makes the services, where they are not given."""
        if self._load is None:
            return
        try:
            self._services = dict(self._load())
        except Exception as error:
            log.exception("the models could not be loaded")
            self._failed = error

    @property
    def idle(self) -> bool:
        """Whether no request is left."""
        return not self._jobs

    @property
    def problem(self) -> str | None:
        """Why no request is taken; None: they are."""
        if self._failed is not None:
            return f"the models could not be loaded: {self._failed}"
        if self._draining or any(service.draining for service in self._services.values()):
            return "the server finishes what it has and takes no more requests"
        return None if self._services else "the models are still loading"

    def services(self) -> Mapping[str, Service]:
        """Those that are loaded."""
        return self._services

    def drain(self) -> None:
        """Takes no more requests; those that there are go on."""
        self._draining = True
        for service in self._services.values():
            service.drain(0)

    def close(self) -> None:
        """Ends all services."""
        self.drain()
        for service in self._services.values():
            service.close()

    def service(self, name: str | None) -> tuple[str, Service]:
        """The service of that name; None: the only one.

        Raises:
            NotReady: It is still loading, or the server drains.
            NotFound: There is none of that name.
            ArgumentError: No name, of several.
        """
        if (problem := self.problem) is not None:
            raise NotReady(problem)
        services = self._services
        if name is None:
            if len(services) > 1:
                text = f"there are several models: name one of {', '.join(services)}"
                raise ArgumentError(text, "model")
            name = next(iter(services))
        if name not in services:
            text = unknown_names("there is no model", [name], list(services))
            raise NotFound(text, "model")
        return name, services[name]

    def submit(self, request: SampleRequest) -> tuple[str, Service, Job]:
        """Queues a request; its id, where it has one, is the job's then.

        Raises:
            Exception: As ``service``, ``Service.submit``; and what the limits refuse.
        """
        name, service = self.service(request.model)
        with _arguments_errors():
            self._check(request, service)
            arguments = _arguments(request, service.engine.spec)
        if arguments["deadline_s"] is None:
            arguments["deadline_s"] = self.limits.deadline_s
        with self._reserved(request.id):  # tracing a new program takes long: nobody waits for it
            with _arguments_errors():
                job = service.submit(**arguments)
            if request.id is not None:
                job.id = request.id
            self._jobs[job.id] = job
        job.add_done_callback(self._forget)
        return name, service, job

    @contextlib.contextmanager
    def _reserved(self, name: str | None) -> Iterator[None]:
        """The id is nobody else's while its request is being queued."""
        if name is None:
            yield
            return
        with self._lock:
            if name in self._jobs or name in self._queueing:
                raise Conflict(f"id {name!r} is a request's that has not ended; give another")
            self._queueing.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._queueing.discard(name)

    def cancel(self, name: str) -> None:
        """Cancels a request.

        Raises:
            NotFound: It has ended, or never was.
        """
        job = self._jobs.get(name)
        if job is None or not job.cancel():
            raise NotFound(f"there is no request {name!r}: it has ended, or never was")

    def describe(self) -> list[ModelReply]:
        """All that are loaded."""
        return [_describe(name, one, self.limits) for name, one in self._services.items()]

    def _check_steps(self, request: SampleRequest, spec: DenoiserSpec) -> None:
        """Steps count as often as an option of the sampler repeats them."""
        steps = request.steps or default_steps(spec, spec.grid_of(request.grid))
        sampler, times = resolve_sampler(_sampler(request, spec)), 1
        for name in REPEATING:
            if name in request.sampler_options:  # as checked, with others' defaults left alone
                times = max(times, int(getattr(sampler, name)))
        if steps * times > (most := self.limits.steps):
            often = f" {times} times" if times > 1 else ""
            raise ArgumentError(f"steps={steps}{often}; this server allows {most} at most", "steps")

    def _forget(self, job: Any) -> None:
        self._jobs.pop(job.id, None)

    def _check(self, request: SampleRequest, service: Service) -> None:
        if request.n > (most := self.limits.samples):
            raise ArgumentError(f"n={request.n}; this server allows {most} at most", "n")
        spec = service.engine.spec
        self._check_steps(request, spec)
        problem = picture_problem(*_output(spec, decode=request.decode))
        if request.output == "png" and problem is not None:
            raise ArgumentError(f"output 'png' is not possible: {problem}; ask for npy", "output")
        if request.previews and not request.stream:
            raise ArgumentError("previews go with stream=true: nothing else shows them", "previews")


@contextlib.contextmanager
def _arguments_errors() -> Iterator[None]:
    """Names of grids, samplers' options and numbers are checked all over the engine."""
    try:
        yield
    except (ArgumentError, RevstepError):
        raise
    except ValueError as error:
        raise ArgumentError(str(error)) from error
    except (ArithmeticError, MemoryError) as error:
        text = f"the numbers of this request lead beyond what can be computed: {error}"
        raise ArgumentError(text) from error


def _sampler(request: SampleRequest, spec: DenoiserSpec) -> SamplerChoice:
    return chosen_sampler(request.sampler, request.sampler_options, spec.default_sampler)


def _arguments(request: SampleRequest, spec: DenoiserSpec) -> dict[str, Any]:
    """What ``Service.submit`` is given."""
    found: dict[str, Any] = {name: getattr(request, name) for name in AS_GIVEN}
    found["sampler"] = _sampler(request, spec)
    found["seed"] = secrets.randbits(SEED_BITS) if request.seed is None else request.seed
    return found


def _output(
    spec: DenoiserSpec, *, decode: bool = True
) -> tuple[tuple[int, ...], tuple[float, float] | None]:
    """Shape and value range of one sample as it is answered."""
    made = spec.decoder if decode and spec.decoder is not None else spec
    return made.shape, made.value_range


def value_range_of(service: Service, *, decode: bool) -> tuple[float, float] | None:
    """The value range of what is answered."""
    return _output(service.engine.spec, decode=decode)[1]


def state_is_picture(service: Service) -> bool:
    """Whether previews can be shown: they are states, which no decoder has seen."""
    spec = service.engine.spec
    return spec.decoder is None and picture_problem(spec.shape, spec.value_range) is None


def _describe(name: str, service: Service, limits: Limits) -> ModelReply:
    spec = service.engine.spec
    shape, value_range = _output(spec)
    return ModelReply(
        name=name,
        shape=list(spec.shape),
        output_shape=list(shape),
        prediction=spec.prediction,
        batch=list(spec.batch),
        slots=service.slots,
        image=picture_problem(shape, value_range) is None,
        conditions=[_condition(c, spec) for c in spec.conditions],
        inputs=[_condition(c, spec) for e in spec.encoders for c in e.inputs],
        prompt=any(e.tokenizers for e in spec.encoders),
        sampler=spec.default_sampler.name,
        samplers=sorted(SAMPLERS),
        grids=sorted(GRIDS),
        default_steps=default_steps(spec, spec.grid_of(None)),
        limits=LimitsReply(steps=limits.steps, samples=limits.samples),
    )


def _condition(condition: Condition, spec: DenoiserSpec) -> ConditionReply:
    low, high = condition.allowed or (None, None)
    null = np.asarray(condition.null) if condition.null is not None else None
    return ConditionReply(
        name=condition.name,
        dtype=condition.dtype,
        shape=list(condition.shape),
        has_null=null is not None,
        encoded=any(condition.name in e.conditions for e in spec.encoders),
        null=float(null) if null is not None and null.ndim == 0 else None,
        min=low,
        max=high,
    )
