"""The cases of the golden runs: samplers, processes, sizes and options, in pairs.

Every sampler meets every process; what else a run has is drawn by its name (``golden_setups``).
Nothing but the public API is used.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable

from golden_setups import KINDS, LABEL, SCHEDULES, SHAPES, VECTOR, Picks, Setup, draw, numbers

import revstep
from revstep import Condition, SecondTime, TimeInput
from revstep.samplers import make_sampler
from revstep.schedules import VPSchedule

__all__ = ["CHANGED", "Case", "all_cases"]

# Groups whose programs, or whose very arguments, are not those of commit 896003f, and why.
CHANGED = {
    "compat": "compat='diffusers' became the run of diffusers 0.42's schedulers and pipelines",
    "noise level": "VP networks fed sigma or log_sigma get sigma / alpha, not sqrt(1 - abar)",
    "later": "arguments, schedules and dtypes that commit 896003f doesn't have",
    "newer samplers": "samplers that commit 896003f doesn't have",
    "two times": "networks that commit 896003f doesn't have",
}
SAMPLERS = {
    "ddim": [{}, {"eta": 0.6}, {"eta": 1.0, "epsilon": "keep"}],
    "ddpm": [{}, {"variance": "large"}],
    "euler_ancestral": [{}, {"eta": 0.4}],
    "edm": [{}, {"churn": 8.0, "low": 0.05, "high": 50.0, "scale": 1.003}, {"order": 1}],
    "dpm2": [{}, {"eta": 0.5}],
    "dpmpp_2s": [{}, {"second": "heun"}],
    "dpmpp_2m": [{}, {"second": "heun"}, {"lower_order_final": False}],
    "dpmpp_2m_sde": [{}, {"eta": 0.3, "second": "heun"}],
    "dpmpp_3m": [{}, {"third": "taylor", "lower_order_final": False}],
    "dpmpp_3m_sde": [{}, {"eta": 0.5}],
    "unipc": [
        {}, {"order": 3}, {"order": 1, "b": "bh1"}, {"order": 3, "b": "bh1", "corrector": False},
        {"lower_order_final": False},
    ],
    "lms": [{}, {"order": 4}, {"order": 1}],
    "ipndm": [{}, {"order": 2}],
    "predictor_corrector": [{}, {"snr": 0.05, "corrections": 2}],
    "langevin": [{"repeats": 2}, {"repeats": 3, "step": 0.1, "denoise": False}],
    "lcm": [{}, {"original_steps": 25, "scaling": 5.0}],
    "consistency": [{}, {"sigma_min": 0.01}],
    "repaint": [{"jump_length": 2, "repeats": 2}, {"jump_length": 1, "repeats": 3, "eta": 0.5}],
}  # fmt: skip


RECORDED = (
    *("ddim", "ddpm", "euler", "euler_ancestral", "heun", "edm", "dpm2", "dpm2_ancestral"),
    *("dpmpp_1s", "dpmpp_1s_sde", "dpmpp_2s", "dpmpp_2s_sde", "dpmpp_2m", "dpmpp_2m_sde"),
    *("dpmpp_3m", "dpmpp_3m_sde", "unipc", "lms", "ipndm", "pndm", "flow_euler", "flow_heun"),
    *("reverse_sde", "predictor_corrector", "langevin", "lcm", "consistency", "repaint"),
)
"""The samplers that the first record has; their options were picked by their places."""
TWO_TIMES = ("flow_map",)
NEWER = [n for n in revstep.samplers.SAMPLERS if n not in (*RECORDED, *TWO_TIMES)]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A run by name; ``setup`` makes it, when it is asked for."""

    group: str
    name: str
    setup: Callable[[], Setup]


@revstep.sampler
def three_terms(run):
    """A sampler of the user's own: three stored values, and noise."""
    x, past = run.x, []
    for now, then in run.steps:
        d = run.denoise(x, now)
        x0 = sum((w * p for w, p in zip((0.25, -0.125, 0.0625), past, strict=False)), 0.9 * d.x0)
        x = then.alpha * x0 + 0.75 * then.sigma * d.eps
        if then.sigma > 0.0:
            x = x + 0.5 * then.sigma * run.noise()
        past = [d.eps, *past][:3]
    return x


def plain_walk(run):
    """A plain function of a run."""
    x = run.x
    for now, then in run.steps:
        d = run.denoise(x, now, weight=0.5)
        x = then.alpha * d.x0 + then.sigma * d.eps
    return x


def _case(group, name, sampler, kind, fields=(), arguments=(), **fixed):
    return Case(group, name, lambda: draw(name, sampler, kind, fields, arguments, **fixed))


def _sampler(name, options):
    """The sampler's name in a case, and the sampler."""
    if not options:
        return name, name
    label = ", ".join(f"{k}={v!r}" for k, v in options.items())
    return f"{name}({label})", make_sampler(name, **options)


def _processes():
    """(number, kind, prediction, fields of the spec)."""
    every = [(kind, prediction) for kind, found in KINDS.items() for prediction in found]
    for number, (kind, prediction) in enumerate(every):
        fields = {"prediction": prediction}
        if prediction == "mean":  # between training indices, and soon at large numbers
            fields |= {"training_step": 2.0, "time": TimeInput(fractions=True)}
        if kind == "edm":
            fields["grid"] = revstep.grids.KarrasGrid(rho=7.0)
        yield number, kind, prediction, fields


def _of_every_sampler():
    for place, name in enumerate(RECORDED):
        variants = SAMPLERS.get(name, [{}])
        for number, kind, prediction, fields in _processes():
            if name.startswith("flow_") and kind not in ("flow", "edm"):
                continue  # refused, as on edm
            label, sampler = _sampler(name, variants[(number + place) % len(variants)])
            yield _case(name, f"{label} on {kind}, {prediction}", sampler, kind, fields)


def _of_own_samplers():
    for number, kind, prediction, fields in _processes():
        own = three_terms if number % 2 else plain_walk
        label = "plain_walk" if own is plain_walk else "three_terms"
        yield _case("own", f"{label} on {kind}, {prediction}", own, kind, fields)


def _of_learned_variance():
    for shape in SHAPES:
        for options in ({"variance": "learned"}, {"variance": "large"}, None):
            for prediction in ("epsilon", "v_prediction"):
                sampler = "dpmpp_2m" if options is None else make_sampler("ddpm", **options)
                label = "dpmpp_2m" if options is None else f"ddpm {options['variance']}"
                name = f"{label} on {prediction}, {shape}"
                fields = {"prediction": prediction, "learned_variance": True}
                yield _case("learned variance", name, sampler, "vp", fields, shape=shape)


def _of_one_engine():
    """Runs that share one spec, and so one engine: nothing that one leaves changes another."""
    fields = {"prediction": "v_prediction", "value_range": (-1.0, 1.0)}
    fixed = {
        "shape": (4, 4, 4), "schedule": VPSchedule(), "time": TimeInput(), "batch": (1, 64),
        "conditions": (LABEL, VECTOR), "final": "clean", "range": {}, "reproducible": False,
        "decoded": False,
    }  # fmt: skip
    spec = draw("one", "ddim", "vp", fields, **fixed).spec
    for number in range(3):
        for place, name in enumerate(RECORDED):
            if name.startswith("flow"):
                continue
            variants = SAMPLERS.get(name, [{}])
            _, sampler = _sampler(name, variants[(number + place) % len(variants)])
            label = f"{name}, {number}"
            yield Case(
                "one engine",
                label,
                lambda label=label, sampler=sampler: dataclasses.replace(
                    draw(label, sampler, "vp", fields, **fixed), spec=spec
                ),
            )


def _of_inversion():
    for number, kind, prediction, fields in _processes():
        name = f"{kind}, {prediction}"
        for iterations, strength in ((0, None), (1, 0.5), (3, None))[number % 2 :: 2]:
            yield Case(
                "inversion",
                f"{iterations} iterations of {strength} on {name}",
                lambda label=name, kind=kind, fields=fields, i=iterations, s=strength: _inversion(
                    label, kind, fields, i, s
                ),
            )


def _inversion(name, kind, fields, iterations, strength):
    taken = ("steps", "grid", "conditions", "null_conditions", "guidance", "clip", "batch_size")
    steps = Picks(name)("steps", [2, 3, 5])
    made = draw(f"inversion of {name}", "ddim", kind, fields, start="noise", steps=steps)
    arguments = {key: made.arguments[key] for key in taken if key in made.arguments}
    x0 = numbers((made.arguments["n"], *made.spec.shape), 9)
    arguments |= {"x0": x0, "iterations": iterations, "strength": strength}
    return dataclasses.replace(made, arguments=arguments, method="invert", watch="nobody")


def _of_compat():
    """Group of ``CHANGED``: what diffusers runs, on the processes that it has."""
    for name in RECORDED:
        for kind, prediction in (("vp", "epsilon"), ("vp", "v_prediction"), ("flow", "flow")):
            fields, label = {"prediction": prediction}, f"{name} on {kind}, {prediction}"
            yield _case("compat", label, name, kind, fields, {"compat": "diffusers"})


def _of_noise_levels():
    """Group of ``CHANGED``."""
    for number, name in enumerate(RECORDED):
        time = TimeInput(kind=("sigma", "log_sigma")[number % 2])
        prediction = KINDS["vp"][number % len(KINDS["vp"])]
        fields, label = {"prediction": prediction}, f"{name} on {prediction}, {time.kind}"
        schedule = SCHEDULES["vp"][number % 4]
        yield _case("noise level", label, name, "vp", fields, time=time, schedule=schedule)


def _of_later():
    """Group of ``CHANGED``."""

    def case(name, sampler, kind, make=lambda: ((), (), {})):
        def setup():
            fields, arguments, fixed = make()
            made = sampler() if callable(sampler) else sampler
            return draw(name, made, kind, fields, arguments, **fixed)

        return Case("later", name, setup)

    def continuous(curve):
        schedule = revstep.schedules.ContinuousVPSchedule(curve=curve)
        time = TimeInput(kind="log_snr" if curve == "linear" else "unit", fractions=True)
        return {}, {}, {"schedule": schedule, "time": time, "grid": None}

    for sampler in ("ddim", "ddpm", "dpmpp_2m", "heun", "unipc", "reverse_sde"):
        for curve in ("linear", "cosine", "sigmoid"):
            yield case(f"{sampler} on continuous {curve}", sampler, "vp",
                       lambda curve=curve: continuous(curve))  # fmt: skip
        yield case(f"{sampler}, final", sampler, "vp", lambda: ({}, {"final": "first"}, {}))
        yield case(
            f"{sampler}, first_ddim", sampler, "vp", lambda: ({"final": "first_ddim"}, {}, {})
        )
    yield case(
        "unipc, disable_corrector",
        lambda: make_sampler("unipc", disable_corrector=(0, 2)), "vp",
    )  # fmt: skip
    yield case(
        "dpmpp_3m, euler_at_final",
        lambda: make_sampler("dpmpp_3m", euler_at_final=True), "vp",
    )  # fmt: skip
    for sampler in ("ddim", "dpmpp_2m_sde"):
        yield case(f"{sampler}, every dtype", sampler, "vp", _every_dtype)


def _of_newer_samplers():
    """Group of ``CHANGED``."""
    for name in NEWER:
        for _, kind, prediction, fields in _processes():
            label = f"{name} on {kind}, {prediction}"
            yield _case("newer samplers", label, name, kind, fields)


def _of_two_times():
    """Group of ``CHANGED``: ``flow_map``, and samplers of a velocity at r = t."""
    flow = ("average_velocity", "jump", "flow", "sample")
    every = [("flow", p) for p in flow] + [("ve", "jump"), ("ve", "sample"), ("edm", "edm")]
    meanings = itertools.product(("end", "length"), ({}, {"gamma": 0.4}, {"gamma": 1.0}))
    for (kind, prediction), (of, options) in itertools.product(every, meanings):
        unit = "thousand" if kind == "flow" else "sigma"
        second = SecondTime(kind=unit, of=of, fractions=True)
        fields = {"prediction": prediction, "second_time": second}
        label, sampler = _sampler("flow_map", options)
        yield _case("two times", f"{label} on {kind}, {prediction}, {of}", sampler, kind, fields)
    second = SecondTime(kind="unit")
    for name in ("ddim", "euler_ancestral", "dpmpp_2m", "flow_heun"):
        fields = {"prediction": "average_velocity", "second_time": second}
        yield _case("two times", f"{name} on its velocity", name, "flow", fields)


def _every_dtype():
    conditions = (
        Condition(name="switch", dtype="bool", null=False),
        Condition(name="code", dtype="int32", null=-1, limits=(-1, 6)),
        Condition(name="vector", shape=(3,), null=[0.5, 0.25, -0.125]),
    )
    return {}, {}, {"conditions": conditions, "guidance": "mixed", "nulls": "spec"}


@functools.cache
def all_cases():
    """Every case, by group."""
    makers = (
        _of_every_sampler, _of_own_samplers, _of_learned_variance, _of_one_engine, _of_inversion,
        _of_compat, _of_noise_levels, _of_later, _of_newer_samplers,
        _of_two_times,
    )  # fmt: skip
    found = {}
    for maker in makers:
        for case in maker():
            cases = found.setdefault(case.group, {})
            assert case.name not in cases, case.name
            cases[case.name] = case
    return found
