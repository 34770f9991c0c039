"""The trainings of bench/reference_training.cc, line by line in Python, under PyTorch's own
DistributedDataParallel."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

MLP_INPUTS, MLP_WIDTH, MLP_CLASSES = 32, 64, 10
BATCH, TIME = 16, 24
MODEL_SEED = 1234
BUCKET_CAP_MB = 0.02
PARITY_SHAPE = (61, 48, 4, 2)  # vocabulary, width, heads, layers
TIMED_SHAPE = (256, 256, 8, 4)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(MLP_INPUTS, MLP_WIDTH)
        self.second = nn.Linear(MLP_WIDTH, MLP_WIDTH)
        self.last = nn.Linear(MLP_WIDTH, MLP_CLASSES)
        self.first_norm = nn.BatchNorm1d(MLP_WIDTH)
        self.second_norm = nn.BatchNorm1d(MLP_WIDTH)

    def forward(self, x):
        x = torch.relu(self.first_norm(self.first(x)))
        x = torch.relu(self.second_norm(self.second(x)))
        return self.last(x)


class TransformerBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first_norm = nn.LayerNorm(width)
        self.second_norm = nn.LayerNorm(width)
        self.joined = nn.Linear(width, 3 * width, bias=False)
        self.mixed = nn.Linear(width, width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x):
        batch, time, width = x.shape
        parts = self.joined(self.first_norm(x))
        parts = parts.view(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        y = x + self.mixed(attended.transpose(1, 2).reshape(batch, time, width))
        return y + self.narrow(F.gelu(self.wide(self.second_norm(y))))


class Transformer(nn.Module):
    def __init__(self, vocabulary, width, heads, layers):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList([TransformerBlock(width, heads) for _ in range(layers)])
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class LibtorchAdamW(torch.optim.Optimizer):
    """libtorch's torch::optim::AdamW, operation by operation (torch/csrc/api/src/optim/adamw.cpp).
    Python's own AdamW computes the first moment with lerp, which rounds differently, and is no part
    of what is compared."""

    def __init__(self, parameters, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(parameters, dict(lr=lr, weight_decay=weight_decay, betas=betas, eps=eps))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                gradient, state = parameter.grad, self.state[parameter]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                if not state:
                    state["step"] = 0
                    state["first"] = torch.zeros_like(parameter)
                    state["second"] = torch.zeros_like(parameter)
                state["step"] += 1
                bias1 = 1 - beta1 ** state["step"]
                bias2 = 1 - beta2 ** state["step"]
                state["first"].mul_(beta1).add_(gradient, alpha=1 - beta1)
                state["second"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                denominator = (state["second"].sqrt() / math.sqrt(bias2)).add_(group["eps"])
                parameter.addcdiv_(state["first"], denominator, value=-(group["lr"] / bias1))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def data_seed(rank, world_size, step):
    return 1_000_000 + step * world_size + rank


def token_batch(vocabulary, batch, time, seed):
    tokens = torch.randint(vocabulary, (batch, time + 1), generator=generator(seed))
    return tokens[:, :time].contiguous(), tokens[:, 1:].contiguous()


def token_loss(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train_mlp(rank, world_size, steps):
    torch.manual_seed(MODEL_SEED)
    model = Mlp()
    ddp = DistributedDataParallel(model, bucket_cap_mb=BUCKET_CAP_MB)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4,
                                foreach=False)
    for step in range(steps):
        random = generator(data_seed(rank, world_size, step))
        inputs = torch.randn((BATCH, MLP_INPUTS), generator=random)
        classes = torch.randint(MLP_CLASSES, (BATCH,), generator=random)
        optimizer.zero_grad()
        F.cross_entropy(ddp(inputs), classes).backward()
        optimizer.step()
    return model


def train_transformer(rank, world_size, steps):
    torch.manual_seed(MODEL_SEED)
    model = Transformer(*PARITY_SHAPE)
    ddp = DistributedDataParallel(model, bucket_cap_mb=BUCKET_CAP_MB)
    optimizer = LibtorchAdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for step in range(steps):
        seed = data_seed(rank, world_size, step)
        inputs, targets = token_batch(PARITY_SHAPE[0], BATCH, TIME, seed)
        optimizer.zero_grad()
        token_loss(ddp(inputs), targets).backward()
        optimizer.step()
    return model


def train_reference(name, rank, world_size, steps):
    return {"mlp_sgd": train_mlp, "transformer_adamw": train_transformer}[name](rank, world_size, steps)
