"""The scenarios of bench/ddp_scenarios.cc, line by line in Python, under PyTorch's own DistributedDataParallel."""

import contextlib

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

ROWS, INPUTS, WIDTH, OUTPUTS = 4, 6, 5, 3


def generator(seed):
    return torch.Generator().manual_seed(seed)


class Turn:
    def __init__(self, rank, step):
        self.rank, self.step = rank, step

    def seed(self, index):
        return 1000 + 100 * self.step + 10 * index + self.rank

    def batch(self, index=0, shape=(ROWS, INPUTS)):
        return torch.empty(shape).uniform_(-1, 1, generator=generator(self.seed(index)))

    def tokens(self):
        return torch.randint(7, (ROWS,), generator=generator(self.seed(0)))


def loss_of(output):
    return output.square().mean() + output.mean()


@torch.no_grad()
def fill(module):
    for seed, (_, parameter) in enumerate(sorted(module.named_parameters()), start=1):
        parameter.uniform_(-0.5, 0.5, generator=generator(seed))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(INPUTS, WIDTH)
        self.second = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Fork(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = Net(), Net()

    def forward(self, x, go_left, go_right):
        if go_left and go_right:
            return self.left(x) + self.right(x)
        return self.left(x) if go_left else self.right(x)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.square = nn.Linear(INPUTS, INPUTS)
        self.head = nn.Linear(INPUTS, OUTPUTS)
        self.tied = self.square.weight

    def forward(self, x):
        return nn.functional.linear(torch.tanh(self.square(x)), self.square.weight) + self.head(x).sum()


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.square = nn.Linear(INPUTS, INPUTS)
        self.last = nn.Linear(INPUTS, OUTPUTS)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.square(x))
        return self.last(x)


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, WIDTH, sparse=True)
        self.last = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, tokens):
        return self.last(self.table(tokens))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(INPUTS, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.last = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(INPUTS, WIDTH)
        self.left = nn.Linear(WIDTH, OUTPUTS)
        self.right = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x):
        hidden = torch.tanh(self.body(x))
        return self.left(hidden), self.right(hidden)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = Heads()

    def forward(self, x):
        left, right = self.heads(x)
        return {"first": [left, left.detach()], "second": [right]}


class Recompute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layer, x):
        ctx.layer = layer
        ctx.save_for_backward(x)
        return layer(x)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(ctx.layer(x), gradient)
        return None, x.grad


class Checkpointed(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.times = times
        self.first = nn.Linear(INPUTS, WIDTH)
        self.middle = nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x):
        hidden = self.first(x)
        for _ in range(self.times):
            hidden = torch.tanh(Recompute.apply(self.middle, hidden))
        return self.last(hidden)


class MixedTypes(nn.Module):
    def __init__(self):
        super().__init__()
        self.coarse = nn.Linear(INPUTS, WIDTH)
        self.fine = nn.Linear(WIDTH, OUTPUTS).double()

    def forward(self, x):
        return self.fine(torch.tanh(self.coarse(x)).double())


class OddShapes(nn.Module):
    def __init__(self):
        super().__init__()
        self.scalar = nn.Parameter(torch.zeros(()))
        self.nothing = nn.Parameter(torch.zeros((0, 3)))
        self.cube = nn.Parameter(torch.zeros((2, 1, 3, 2)))

    def forward(self, x):
        return torch.tanh(x * self.scalar).sum() * self.cube.square().sum() + self.nothing.sum()


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 2, 2)
        for conv in (self.first, self.second):
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, x):
        return self.second(torch.tanh(self.norm(self.first(x)))).mean((2, 3))


class Fragile(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x, fail):
        hidden = self.net.first(x)
        if fail:
            raise ValueError("the model's own exception")
        return self.net.second(torch.tanh(hidden))


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(INPUTS))

    def forward(self, x):
        with torch.no_grad():
            self.count.add_(1)
            self.mean = self.mean * 0.5 + x.mean(0) * 0.5
        return self.net(x - self.mean)


class Loop:
    def __init__(self, model, options, body, clear=True):
        fill(model)
        self.model, self.body, self.clear = model, body, clear
        self.ddps = [DistributedDataParallel(model, **options)]
        self.in_place = options.get("gradient_as_bucket_view", False)

    def step(self, rank, step):
        if self.clear:  # as ddp.zero_grad() does it
            self.model.zero_grad(set_to_none=not self.in_place)
        self.body(self.ddps[0], Turn(rank, step))


class TwoWrappers(Loop):
    def __init__(self, options):
        class Both(nn.Module):
            def __init__(self):
                super().__init__()
                self.front = nn.Linear(INPUTS, WIDTH)
                self.back = nn.Linear(WIDTH, OUTPUTS)

        self.model = Both()
        fill(self.model)
        self.ddps = [DistributedDataParallel(part, **options) for part in (self.model.front, self.model.back)]
        self.in_place = options.get("gradient_as_bucket_view", False)

    def step(self, rank, step):
        self.model.zero_grad(set_to_none=not self.in_place)
        front, back = self.ddps
        loss_of(back(torch.tanh(front(Turn(rank, step).batch())))).backward()


def freeze(layer):
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    return layer


def simple(ddp, turn):
    loss_of(ddp(turn.batch())).backward()


def net(body, clear=True):
    return lambda options: Loop(Net(), options, body, clear)


def of(make, body=simple):
    return lambda options: Loop(make(), options, body)


def fork(go):
    return of(Fork, lambda ddp, turn: loss_of(ddp(turn.batch(), *go(turn))).backward())


def heads(backward):
    def body(ddp, turn):
        left, right = ddp(turn.batch())
        backward(loss_of(left), loss_of(right))
    return of(Heads, body)


def clipped(ddp, turn):
    simple(ddp, turn)
    # libtorch's clip_grad_norm_, operation by operation (torch/nn/utils/clip_grad.h). It divides, where `0.1 / tensor` is a
    # product with the reciprocal in Python: often another float.
    gradients = [p.grad for p in ddp.parameters() if p.grad is not None]
    total = torch.stack([g.norm(2.0) for g in gradients]).norm(2.0)
    scale = torch.clamp(torch.full_like(total, 0.1).div(total + 1e-6), max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)


def frozen_in_step_two(ddp, turn):
    if turn.step == 2:
        freeze(ddp.module.first)
    simple(ddp, turn)


def two_forwards_one_backward(ddp, turn):
    first = ddp(turn.batch(0))
    (loss_of(first) + loss_of(ddp(turn.batch(1)))).backward()


def two_forwards_two_backwards(ddp, turn):
    first = ddp(turn.batch(0))
    second = ddp(turn.batch(1))
    loss_of(first).backward()
    loss_of(second).backward()


def two_backwards_in_turn(ddp, turn):
    loss_of(ddp(turn.batch(0))).backward()
    loss_of(ddp(turn.batch(1))).backward()


def one_graph_two_backwards(ddp, turn):
    loss = loss_of(ddp(turn.batch()))
    loss.backward(retain_graph=True)
    loss.backward()


def two_losses_two_backwards(left, right):
    left.backward(retain_graph=True)
    right.backward()


def nested_output(ddp, turn):
    output = ddp(turn.batch())
    (loss_of(output["first"][0]) + loss_of(output["second"][0])).backward()


def evaluate_between(ddp, turn):
    output = ddp(turn.batch(0))
    ddp.module.eval()
    with torch.no_grad():
        ddp(turn.batch(1))
        ddp(turn.batch(2))
    ddp.module.train()
    loss_of(output).backward()


def accumulate(ddp, turn):
    with ddp.no_sync():
        loss_of(ddp(turn.batch(0))).backward()
        loss_of(ddp(turn.batch(1))).backward()
    loss_of(ddp(turn.batch(2))).backward()


def local_in_step_one(ddp, turn):
    with ddp.no_sync() if turn.step == 1 else contextlib.nullcontext():
        simple(ddp, turn)


def backward_after_guard(ddp, turn):
    with ddp.no_sync():
        output = ddp(turn.batch())
    loss_of(output).backward()


def forward_before_guard(ddp, turn):
    output = ddp(turn.batch())
    with ddp.no_sync():
        loss_of(output).backward()


def backward_skipped(ddp, turn):
    loss = loss_of(ddp(turn.batch()))
    if turn.step != 1:
        loss.backward()


def exception_in_forward(ddp, turn):
    try:
        loss_of(ddp(turn.batch(), turn.step == 1)).backward()
    except ValueError:
        pass


def gradient_penalty(ddp, turn):
    x = turn.batch().requires_grad_()
    output = ddp(x)
    slope = torch.autograd.grad(output.sum(), x, create_graph=True)[0]
    (loss_of(output) + slope.square().sum()).backward()


def frozen():
    model = Net()
    freeze(model.first)
    return model


SCENARIOS = {
    "plain": net(simple),
    "kept_gradients": net(simple, clear=False),
    "clipped": net(clipped),
    "branch_by_step": fork(lambda turn: (turn.step % 2 == 0, turn.step % 2 == 1)),
    "branch_by_rank": fork(lambda turn: (turn.rank == 0, turn.rank != 0)),
    "all_used_by_rank_zero": fork(lambda turn: (True, turn.rank == 0)),
    "all_used_in_step_zero": fork(lambda turn: (True, turn.step == 0)),
    "all_used_later": fork(lambda turn: (True, turn.step > 0)),
    "never_used": fork(lambda turn: (True, False)),
    "both_used": fork(lambda turn: (True, True)),
    "shared": of(Shared),
    "used_three_times": of(Repeated),
    "sparse": of(Sparse, lambda ddp, turn: loss_of(ddp(turn.tokens())).backward()),
    "frozen": of(frozen),
    "frozen_in_step_two": net(frozen_in_step_two),
    "two_forwards_one_backward": net(two_forwards_one_backward),
    "two_forwards_two_backwards": net(two_forwards_two_backwards),
    "two_backwards_in_turn": net(two_backwards_in_turn),
    "one_graph_two_backwards": net(one_graph_two_backwards),
    "two_losses": heads(lambda left, right: (left + right).backward()),
    "two_losses_two_backwards": heads(two_losses_two_backwards),
    "one_output_of_two": heads(lambda left, right: left.backward()),
    "nested_output": of(Nested, nested_output),
    "checkpointed": of(lambda: Checkpointed(1)),
    "checkpointed_twice": of(lambda: Checkpointed(2)),
    "batch_norm": of(Normed),
    "batch_norm_two_forwards": of(Normed, two_forwards_one_backward),
    "evaluate_between": of(Normed, evaluate_between),
    "buffers": of(Buffered),
    "two_wrappers": TwoWrappers,
    "accumulate": net(accumulate),
    "local_in_step_one": net(local_in_step_one),
    "backward_after_guard": net(backward_after_guard),
    "forward_before_guard": net(forward_before_guard),
    "backward_skipped": net(backward_skipped),
    "exception_in_forward": of(Fragile, exception_in_forward),
    "gradient_penalty": net(gradient_penalty),
    "mixed_types": of(MixedTypes),
    "odd_shapes": of(OddShapes),
    "channels_last": of(ChannelsLast, lambda ddp, turn: loss_of(ddp(turn.batch(0, (ROWS, 2, 6, 6)))).backward()),
}
