"""Encodings of a service's requests, between the steps of those that run."""

import threading

import revstep
from revstep.engine.service.worker import Worker


def test_a_service_steps_between_the_encodings_of_two_requests(reading_bundle, monkeypatch):
    engine = revstep.load(reading_bundle)
    networks = engine._encoder.encoders._networks
    network, done, submitted = networks["text"], [], threading.Event()

    def encoding(inputs):
        assert submitted.wait(60)
        done.append("encode")
        return network(inputs)

    def stepping(worker, lane, step=Worker._step):
        done.append("step")
        return step(worker, lane)

    networks["text"] = encoding
    monkeypatch.setattr(Worker, "_step", stepping)
    with revstep.Service(engine, slots=8, warm_up=False) as service:
        texts = ["red house", "the moon", "a cat", "blue dog"]
        jobs = [service.submit(prompt=text, steps=20) for text in texts]
        submitted.set()
        for job in jobs:
            job.result(60)
    assert done[:8] == 4 * ["encode", "step"]
