"""Ray Serve: replicas of the HTTP app, each with services of its own, scaled by their queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from revstep.engine.bundle.layout import bundle_name
from revstep.engine.errors import ArgumentError
from revstep.serve.http.app import create_app
from revstep.serve.http.limits import Limits
from revstep.serve.http.token_file import MIN_TOKEN, read_token

SPARE = 16  # requests of a replica besides those that its services have: health, models, metrics


class Settings(BaseModel):
    """What an application is made of; ``serve run`` takes them as ``name=value``.

    Attributes:
        bundles: Model name -> path of its bundle, which every node sees; or paths, or one text with
            commas between them: the names are the folders', without .revstep.
        min_replicas: Replicas there are always.
        max_replicas: Replicas there are at most.
        target_requests: Requests of a replica, running and waiting, beyond which another one is
            started; None: as many as it has slots.
        upscale_delay_s: Seconds for which there must be more before one is started.
        cpus: CPUs that a replica takes.
        gpus: GPUs that a replica takes.
        slots: As in ``Service``.
        max_queue: As in ``Service``: beyond it a replica answers 503 with Retry-After.
        deterministic: As in ``Service``.
        backend: As in ``load``.
        device: As in ``load``.
        precision: As in ``load``.
        threads: As in ``load``; None: as many as ``cpus``.
        max_steps: Steps of a request, at most.
        max_samples: Samples of a request, at most.
        max_body_bytes: Bytes of a request's body, at most.
        deadline_s: Seconds in which a request that names no deadline must be done; None: any time.
        grace_s: Seconds that a replica's requests get when it ends.
        token: What ``Authorization: Bearer`` must say; None: nothing is asked for.
        token_file: A file with it, which every node sees: no process list and no log has it then.
    """

    model_config = ConfigDict(extra="forbid")

    bundles: dict[str, str] | list[str] | str
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    target_requests: float | None = Field(None, gt=0)
    upscale_delay_s: float = Field(10.0, ge=0)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    slots: int = Field(16, ge=1)
    max_queue: int = Field(64, ge=1)
    deterministic: bool = False
    backend: str = "auto"
    device: str = "auto"
    precision: str | None = None
    threads: int | None = None
    max_steps: int = Field(1000, ge=1)
    max_samples: int = Field(64, ge=1)
    max_body_bytes: int = Field(16 << 20, ge=1024)
    deadline_s: float | None = Field(None, gt=0)
    grace_s: float = Field(30.0, ge=0)
    token: str | None = Field(None, min_length=MIN_TOKEN, repr=False)
    token_file: str | None = None

    def named_bundles(self) -> dict[str, str]:
        """Model name -> absolute path.

        Raises:
            ArgumentError: There is none, or two have one name.
        """
        given = self.bundles
        if isinstance(given, str):
            given = [part.strip() for part in given.split(",") if part.strip()]
        if isinstance(given, list):
            paths = [Path(one).absolute() for one in given]
            names = list(map(bundle_name, paths))
            if len(set(names)) != len(names):
                text = f"two bundles have one name, of {', '.join(names)}; give name: path"
                raise ArgumentError(text, "bundles")
            given = dict(zip(names, map(str, paths), strict=True))
        if not given:
            raise ArgumentError("bundles must name at least one bundle", "bundles")
        return {name: str(Path(path).absolute()) for name, path in given.items()}


def build_app(settings: Settings | Mapping[str, Any]) -> Any:
    """A Ray Serve application of the HTTP API: every replica has all bundles of ``settings``.

    ``serve run revstep.serve.ray.deployment:build_app bundles=x.revstep``, or::

        from ray import serve

        serve.run(build_app(Settings(bundles="x.revstep", max_replicas=4)), route_prefix="/")

    Bundles that should scale apart are applications apart, each with its own ``name`` and
    ``route_prefix``.

    Args:
        settings: Or its fields by name, as ``serve run`` gives them.

    Raises:
        ArgumentError: No bundles, or two of one name; or settings that don't go together.
        OSError, ValueError: A token's file that can't be read, or holds none.
        pydantic.ValidationError: A field that can't be.
    """
    from ray import serve

    if not isinstance(settings, Settings):
        settings = Settings.model_validate(settings)
    if settings.max_replicas < settings.min_replicas:
        raise ArgumentError(
            f"max_replicas={settings.max_replicas} is less than min_replicas="
            f"{settings.min_replicas}",
            "max_replicas",
        )
    if settings.token is not None and settings.token_file is not None:
        raise ArgumentError("give token or token_file, not both", "token_file")
    if settings.token_file is not None:
        read_token(Path(settings.token_file))  # refused here, not in every replica
    bundles = settings.named_bundles()
    actor: dict[str, Any] = {"num_cpus": settings.cpus, "num_gpus": settings.gpus}
    replica: Any = serve.deployment(
        serve.ingress(replica_app(bundles, settings))(),
        name="revstep",
        # the services' own queues are what is full first: they answer, and say when to come back
        max_ongoing_requests=len(bundles) * (settings.slots + settings.max_queue) + SPARE,
        autoscaling_config={
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.target_requests or settings.slots,
            "upscale_delay_s": settings.upscale_delay_s,
        },
        graceful_shutdown_timeout_s=settings.grace_s,
        ray_actor_options=actor,
    )
    return replica.bind()


def replica_app(bundles: Mapping[str, str], settings: Settings) -> Callable[[], FastAPI]:
    """What makes a replica's app, in the replica: it is ready once its networks are warm."""
    token_file = None if settings.token_file is None else Path(settings.token_file).absolute()

    def make() -> FastAPI:
        import revstep

        token = settings.token if token_file is None else read_token(token_file)
        services = {}
        for name, path in bundles.items():
            engine = revstep.load(
                path,
                backend=settings.backend,
                device=settings.device,
                precision=settings.precision,
                threads=settings.threads or max(1, int(settings.cpus)),
            )
            services[name] = revstep.Service(
                engine,
                slots=min(settings.slots, engine.spec.batch[1]),
                max_queue=settings.max_queue,
                deterministic=settings.deterministic,
            )
        limits = Limits(
            settings.max_steps, settings.max_samples, settings.max_body_bytes, settings.deadline_s
        )
        return create_app(services, limits=limits, token=token, page=False)

    return make
