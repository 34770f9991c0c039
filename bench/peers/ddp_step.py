"""One rank of the step-time run under Python: prints, on rank 0, the milliseconds of each timed step.

usage: ddp_step.py WARMUP STEPS BATCH TIME   (rank and world from torchrun's environment names)
"""

import os
import sys
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import reference_training as reference


def main():
    warmup, steps, batch, length = map(int, sys.argv[1:5])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(reference.MODEL_SEED)
    model = reference.Transformer(*reference.TIMED_SHAPE)
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    inputs, targets = reference.token_batch(reference.TIMED_SHAPE[0], batch, length, rank)
    for step in range(warmup + steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        reference.token_loss(ddp(inputs), targets).backward()
        optimizer.step()
        if rank == 0 and step >= warmup:
            print((time.perf_counter() - start) * 1e3, flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main()
