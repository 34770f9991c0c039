"""One rank of the step-time run under Python: prints, on rank 0, the milliseconds of each timed step.

usage: ddp_step.py [--hook none|fp16|bf16|powersgd1|powersgd4] WARMUP STEPS BATCH TIME
(rank and world from torchrun's environment names)
"""

import os
import sys
import time

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

import reference_training as reference


def wrap(model, hook):
    """The model under DistributedDataParallel with one of PyTorch's own communication hooks, as its documentation installs
    them."""
    # PowerSGD starts an all-reduce when another is done, bucket by bucket, so ranks with several buckets start them in
    # different orders, which Gloo takes for a mismatch and dies of. One bucket keeps the order.
    caps = {"bucket_cap_mb": 1024} if hook.startswith("powersgd") else {}
    ddp = DistributedDataParallel(model, **caps)
    if hook in ("fp16", "bf16"):
        ddp.register_comm_hook(None, getattr(default_hooks, f"{hook}_compress_hook"))
    elif hook.startswith("powersgd"):
        rank = int(hook.removeprefix("powersgd"))
        state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=2)
        ddp.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    elif hook != "none":
        sys.exit(f"no hook '{hook}'")
    return ddp


def main():
    arguments = sys.argv[1:]
    hook = "none"
    if arguments[0] == "--hook":
        hook, arguments = arguments[1], arguments[2:]
    warmup, steps, batch, length = map(int, arguments)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(reference.MODEL_SEED)
    model = reference.Transformer(*reference.TIMED_SHAPE)
    ddp = wrap(model, hook)
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
