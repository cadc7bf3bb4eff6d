"""The worker of `modules`: it prints, as JSON, the modules that each stage of a start imports.

It imports nothing itself before the first stage but what every Python has by then.
"""

import sys

BEFORE = frozenset(sys.modules)


def main() -> None:
    """Go through the stages and print."""
    stages = {}
    import revstep

    stages["import revstep"] = _added()
    _ = revstep.load
    stages["revstep.load"] = _added()
    from revstep.schedules import VPSchedule

    class Nothing:
        spec = revstep.DenoiserSpec(shape=(32,), schedule=VPSchedule(), prediction="epsilon")

        def bind(self, buffers: object) -> object:
            return lambda: None

        def describe(self) -> dict[str, str]:
            return {"backend": "nothing"}

    revstep.Engine(Nothing()).sample(1, seed=0)  # type: ignore[arg-type]
    stages["first sample"] = _added()
    import json

    print(json.dumps(stages))


def _added() -> list[str]:
    return sorted(set(sys.modules) - BEFORE)


if __name__ == "__main__":
    main()
