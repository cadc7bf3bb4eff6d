"""A small policy with an observation encoder, and a denoiser of text, as checkpoints."""

import numpy as np
import torch

from revstep import Condition, Decoder, DenoiserSpec, Encoder, PictureEncoder, Tokenizer
from revstep.export import Checkpoint
from revstep.schedules import VPSchedule

STATE, IMAGE = (5,), (1, 8, 8)
VOCABULARY, LENGTH, WIDTH = 30, 6, 8


class ObservationEncoder(torch.nn.Module):
    """An image and a state to one vector."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.linear = torch.nn.Linear(4 * 16 + 5, WIDTH)

    def forward(self, image, state):
        seen = torch.relu(self.convolution(image)).flatten(1)
        return torch.tanh(self.linear(torch.cat([seen, state], 1)))


class TokenEncoder(torch.nn.Module):
    """Tokens to a sequence, and to its mean."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.linear = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens):
        sequence = self.table(tokens) + torch.tanh(self.linear(self.table(tokens)))
        return sequence, sequence.mean(1)


class Policy(torch.nn.Module):
    """Actions (4, 2) with a context."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(8 + 1 + WIDTH, 32), torch.nn.SiLU(), torch.nn.Linear(32, 8)
        )

    def forward(self, x, t, context):
        flat = torch.cat([x.flatten(1), t[:, None] / 1000, context], 1)
        return self.layers(flat).reshape(x.shape)


class TextDenoiser(torch.nn.Module):
    """Latents (2, 4, 4) with a sequence and its pooled form."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(2, 8, 3, padding=1)
        self.context = torch.nn.Linear(WIDTH, 8)
        self.pooled = torch.nn.Linear(WIDTH + 1, 8)
        self.out = torch.nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x, t, sequence, pooled):
        with_time = torch.cat([pooled, t[:, None] / 1000], 1)
        shift = self.context(sequence).mean(1) + self.pooled(with_time)
        return self.out(torch.tanh(self.convolution(x) + shift[:, :, None, None]))


WORDS = ("a", "red", "blue", "house", "tree", "under", "the", "moon", "cat", "dog")


def word_tokenizer(path):
    """Writes a tokenizer of ten words: 0 pads, 1 begins, 2 is any other word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {"<pad>": 0, "<begin>": 1, "<other>": 2}
    vocabulary |= {word: 3 + k for k, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<other>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", 1)]
    )
    made.save(str(path))
    return path


def observing(folder=None):
    """A policy whose one condition is encoded of an image and a state."""
    torch.manual_seed(0)
    encoder = Encoder(
        name="observation",
        inputs=(Condition(name="image", shape=IMAGE), Condition(name="state", shape=STATE)),
        conditions=("context",),
    )
    spec = DenoiserSpec(
        shape=(4, 2),
        schedule=VPSchedule(betas="squaredcos_cap_v2", steps=100),
        prediction="epsilon",
        conditions=(Condition(name="context", shape=(WIDTH,)),),
        encoders=(encoder,),
        value_range=(-1.0, 1.0),
    )
    return Checkpoint(module=Policy(), spec=spec, encoders={"observation": ObservationEncoder()})


def reading(folder):
    """A latent denoiser of a prompt, with a decoder and a picture encoder."""
    torch.manual_seed(1)
    tokens = Condition(
        name="tokens", shape=(LENGTH,), dtype="int64", null=[1] + [0] * (LENGTH - 1),
        limits=(0, VOCABULARY - 1), example=np.arange(4 * LENGTH).reshape(4, LENGTH) % VOCABULARY,
    )  # fmt: skip
    encoder = Encoder(
        name="text",
        inputs=(tokens,),
        conditions=("sequence", "pooled"),
        tokenizers=(Tokenizer(ids="tokens", length=LENGTH, pad=0),),
    )
    spec = DenoiserSpec(
        shape=(2, 4, 4),
        schedule=VPSchedule(),
        prediction="epsilon",
        conditions=(
            Condition(name="sequence", shape=(LENGTH, WIDTH)),
            Condition(name="pooled", shape=(WIDTH,)),
        ),
        encoders=(encoder,),
        decoder=Decoder(shape=(3, 8, 8), scale=0.5),
        picture_encoder=PictureEncoder(shape=(3, 8, 8)),
    )
    return Checkpoint(
        module=TextDenoiser(),
        spec=spec,
        encoders={"text": TokenEncoder()},
        decoder=torch.nn.ConvTranspose2d(2, 3, 2, stride=2),
        picture_encoder=torch.nn.Conv2d(3, 2, 2, stride=2),
        files={"tokenizer.json": word_tokenizer(folder / "words.json")},
    )
