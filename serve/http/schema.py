"""What is sent and answered, as pydantic models: the OpenAPI description is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from typing_extensions import TypeAliasType

from revstep.engine.nearest import unknown_names
from revstep.serve.http.npy import array_of_npy

Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = TypeAliasType("Numbers", "bool | int | Number | list[Numbers]")
Seed = Annotated[int, Field(ge=0, le=2**64 - 1)]
Name = Annotated[str, Field(max_length=256)]
Prompt = Annotated[str, Field(max_length=16_384)]
MAX_ENTRIES = 64  # of one field: a message for each of a million wrong ones would take minutes


class NpyArray(BaseModel):
    """A numpy .npy file, base64."""

    model_config = ConfigDict(extra="forbid")

    npy: str = Field(description="base64 of a .npy file without pickled objects")


def _array(value: Any, validate: ValidatorFunctionWrapHandler) -> NDArray[Any]:
    """Numbers or a .npy file as an array; as a whole, not by one error for each number."""
    if isinstance(value, dict) and set(value) == {"npy"} and isinstance(value["npy"], str):
        return array_of_npy(value["npy"])
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise ValueError("its lists differ in length or depth, or nest too deep") from error
    if found.dtype.kind not in "biuf" or not np.isfinite(found).all():
        raise ValueError('it must be finite numbers, nested lists of such, or {"npy": base64}')
    return found


# pydantic's own check of the union describes it in OpenAPI, and is not run.
Array = Annotated[Numbers | NpyArray, WrapValidator(_array)]


EXAMPLE: dict[str, JsonValue] = {"sampler": "dpmpp_2m", "steps": 12, "seed": 7, "output": "png"}
GUIDED: dict[str, JsonValue] = {
    "n": 4,
    "sampler": "ddim",
    "sampler_options": {"eta": 0.5},
    "steps": 20,
    "guidance": 1.5,
    "conditions": {"class_labels": [0, 1, 2, 3]},
    "output": "json",
}
STREAMED: dict[str, JsonValue] = {"steps": 30, "stream": True, "previews": 5, "deadline_s": 10.0}


class SampleRequest(BaseModel):
    """A request for samples; the fields that ``Engine.sample`` has mean what they mean there."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE, GUIDED, STREAMED]}
    )

    model: Name | None = Field(
        None, description="A name of /v1/models; needed if there are several"
    )
    id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="A name for DELETE; drawn if left out",
    )
    n: int = Field(1, ge=1, description="Number of samples")
    sampler: Name | None = Field(
        None, description="A sampler's name, of /v1/models; null: the model's own"
    )
    sampler_options: dict[Name, bool | int | Number | Name | None] = Field(
        default_factory=dict, description='The sampler\'s options, such as {"eta": 0.5}'
    )
    steps: int | None = Field(None, ge=1, description="Steps; null: 20, or the grid's own")
    seed: Seed | Annotated[list[Seed], Field(fail_fast=True)] | None = Field(
        None, description="Sample i uses seed + i; or one each; null: drawn, and reported"
    )
    guidance: Number | Annotated[list[Number], Field(fail_fast=True)] = Field(
        1.0, description="Classifier-free guidance; 1 is off"
    )
    conditions: dict[Name, Array] | None = Field(
        None, description="name -> one value each, or one for all"
    )
    null_conditions: dict[Name, Array] | None = Field(
        None, description="name -> value of the unconditional half (a negative prompt)"
    )
    inputs: dict[Name, Array] | None = Field(
        None, description="What the model's encoders take: name -> one value each, or one for all"
    )
    null_inputs: dict[Name, Array] | None = Field(
        None, description="Likewise, of the unconditional half"
    )
    prompt: Prompt | Annotated[list[Prompt], Field(fail_fast=True)] | None = Field(
        None, description="Text for the model's text encoder: for all, or one for each sample"
    )
    negative_prompt: Prompt | Annotated[list[Prompt], Field(fail_fast=True)] | None = Field(
        None, description="What guidance leads away from; null: the empty prompt"
    )
    height: int | None = Field(None, ge=1, description="Of the pictures; a model has one size")
    width: int | None = Field(None, ge=1, description="Likewise")
    start: Array | None = Field(None, description="Image-to-image: what to begin from")
    strength: Number | None = Field(None, description="With start: the share of the steps to run")
    mask: Array | None = Field(None, description="Inpainting: 1 keeps the known pixel, 0 fills it")
    known: Array | None = Field(None, description="The known pixels; start if null")
    noise: Array | None = Field(None, description="Standard normal, instead of the seeds' own")
    grid: Name | None = Field(None, description="The time grid's name: trailing, karras, ...")
    compat: Literal["diffusers"] | None = Field(None, description="Step as that library")
    clip: bool | None = Field(None, description="Clip the estimate; null: as the bundle says")
    final: Name | None = Field(None, description="Where the run ends: clean or first")
    decode: bool = Field(True, description="Run the bundle's latent decoder")
    priority: int = Field(0, ge=-1000, le=1000, description="Higher goes first")
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Seconds; a request that isn't done by then fails with 504"
    )
    output: Literal["json", "png", "npy"] = Field("json", description="What the samples come as")
    stream: bool = Field(False, description="Answer with server-sent events")
    previews: int = Field(
        0, ge=0, description="With stream: a preview every so many steps; 0: none"
    )

    @model_validator(mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        """One message for all that is too much."""
        if not isinstance(value, dict):
            return value
        if unknown := [name[:256] for name in value if name not in cls.model_fields]:
            raise ValueError(unknown_names("there is no field", unknown[:4], cls.model_fields))
        for name, field in value.items():
            if isinstance(field, dict) and len(field) > MAX_ENTRIES:
                raise ValueError(f"{name} has {len(field)} entries; {MAX_ENTRIES} are allowed")
        return value


class SampleReply(BaseModel):
    """The samples of a request."""

    id: str
    model: str
    seeds: list[int] = Field(description="Each sample's own seed")
    shape: list[int] = Field(description="Of the samples: (n, ...)")
    dtype: Literal["float32"] = "float32"
    data: str = Field(description="base64 of the values, little-endian, in C order")
    calls: int = Field(description="Network calls of each sample")
    queued_ms: float = Field(description="From the request to its first step")
    run_ms: float = Field(description="From there to the last")


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str = Field(description="The error's class, such as ArgumentError")
    message: str = Field(description="What was got, what is allowed, how to fix it")
    argument: str | None = Field(None, description="The field that it is about")


class ErrorReply(BaseModel):
    """Any answer that is no success."""

    error: ErrorDetail


class ConditionReply(BaseModel):
    """One of a model's conditions."""

    name: str
    dtype: str
    shape: list[int] = Field(description="Of one sample's value; [] for a number")
    has_null: bool = Field(description="Whether it may be left out, and be guided")
    encoded: bool = Field(description="Whether an encoder gives it, of inputs or a prompt")
    null: float | None = Field(description="The null value, where it is one number")
    min: int | None = Field(description="The smallest whole number allowed; null: any")
    max: int | None = Field(description="The largest")


class LimitsReply(BaseModel):
    """What one request may ask for."""

    steps: int
    samples: int


class ModelReply(BaseModel):
    """A model that can be sampled."""

    name: str
    shape: list[int] = Field(description="Of one sample")
    output_shape: list[int] = Field(description="Of one sample as it is answered")
    prediction: str
    batch: list[int] = Field(description="Network rows of a call: min, max")
    slots: int = Field(description="Network rows of the service's largest call")
    image: bool = Field(description="Whether output png is possible")
    conditions: list[ConditionReply]
    inputs: list[ConditionReply] = Field(description="What the model's encoders take")
    prompt: bool = Field(description="Whether one of them takes text")
    sampler: str = Field(description="The model's own sampler, where a request names none")
    samplers: list[str]
    grids: list[str]
    default_steps: int
    limits: LimitsReply


class ModelsReply(BaseModel):
    """All models."""

    models: list[ModelReply]


class HealthReply(BaseModel):
    """How the server is."""

    status: str
