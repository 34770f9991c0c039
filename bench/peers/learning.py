"""bench/learning.cc, line by line, under Python's DistributedDataParallel and its communication hooks.

usage: learning.py [--hook none|fp16|bf16|powersgd1|powersgd4] TEXT STEPS EVERY BATCH TIME
"""

import os
import sys

import torch
import torch.distributed as dist

import reference_training as reference
from ddp_step import wrap

HELD_OUT_WINDOWS, TRAINED_PART = 64, 0.95


def windows(text, starts, time):
    tokens = text[starts.unsqueeze(1) + torch.arange(time + 1)]
    return tokens[:, :time].contiguous(), tokens[:, 1:].contiguous()


@torch.no_grad()
def held_out_loss(model, text, time):
    first = int(len(text) * TRAINED_PART)
    stride = (len(text) - first - time - 1) // HELD_OUT_WINDOWS
    inputs, targets = windows(text, first + stride * torch.arange(HELD_OUT_WINDOWS), time)
    return reference.token_loss(model(inputs), targets).item()


def main():
    arguments = sys.argv[1:]
    hook = "none"
    if arguments[0] == "--hook":
        hook, arguments = arguments[1], arguments[2:]
    path, (steps, every, batch, time) = arguments[0], map(int, arguments[1:])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(reference.MODEL_SEED)
    model = reference.Transformer(*reference.TIMED_SHAPE)
    ddp = wrap(model, hook)
    optimizer = reference.LibtorchAdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    with open(path, "rb") as file:
        text = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).long()
    trained = int(len(text) * TRAINED_PART)
    for step in range(steps):
        generator = reference.generator(reference.data_seed(rank, world_size, step))
        starts = torch.randint(trained - time - 1, (batch,), generator=generator)
        inputs, targets = windows(text, starts, time)
        optimizer.zero_grad()
        reference.token_loss(ddp(inputs), targets).backward()
        optimizer.step()
        if rank == 0 and (step + 1) % every == 0:
            print(step + 1, held_out_loss(model, text, time), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main()
