"""Requests from asyncio: many at once, one watched as it forms, one given up.

python examples/service/asyncio_requests.py demo-output/fashion_mnist_unet.revstep
"""

import asyncio
import sys

import revstep


async def at_once(service: revstep.Service) -> list[revstep.Samples]:
    """One request a class, of 10 to 28 steps: they share network calls, and end by and by."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                service.sample(1, steps=10 + 2 * k, seed=k, conditions={"class_labels": k})
            )
            for k in range(10)
        ]
    return [task.result() for task in tasks]


async def watched(service: revstep.Service) -> revstep.Samples | None:
    """Estimates of the denoised samples, each fourth step; leaving the loop would cancel.

    A reader that is slower than the steps gets the newest only.
    """
    samples = None
    async for progress in service.stream(
        4, steps=20, seed=0, conditions={"class_labels": 7}, previews=4
    ):
        if progress.x0 is not None:
            contrast = progress.x0.std()
            print(f"step {progress.step} of {progress.steps}: contrast {contrast:.2f}")
        samples = progress.samples
    return samples


async def given_up(service: revstep.Service, after_s: float) -> bool:
    """A task that is cancelled, here by a timeout, frees its slots at the next step."""
    try:
        async with asyncio.timeout(after_s):
            await service.sample(16, sampler="ddpm", steps=1000, conditions={"class_labels": 8})
    except TimeoutError:
        return True
    return False


async def main(bundle: str) -> None:
    """All three, with what the service says of them."""
    with revstep.Service(revstep.load(bundle)) as service:
        print("seeds", [int(samples.seeds[0]) for samples in await at_once(service)])
        print(await watched(service))
        print("given up:", await given_up(service, after_s=0.2))
        print(service.stats().outcomes)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
