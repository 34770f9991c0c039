"""One rank of the matrix under Python's DDP: the counterpart of bench/ddp_matrix.cc.

usage: ddp_matrix.py TABLE RESULTS STEPS   (rank and world from torchrun's environment names)

In the table the codec `none` is DDP as it is; `exact` is DDP with a communication hook that adds in rank order, which is
what lossless codecs promise.
"""

import datetime
import gc
import json
import logging
import os
import sys
import warnings

import torch
import torch.distributed as dist

from ddp_scenarios import SCENARIOS

SMALL_BUCKET_MB = 0.0001
TIMEOUT = datetime.timedelta(seconds=60)


def options_of(words):
    options = {}
    for word in words.split(","):
        options.update({
            "default": {},
            "find_unused": {"find_unused_parameters": True},
            "static_graph": {"static_graph": True},
            "bucket_view": {"gradient_as_bucket_view": True},
            "small_buckets": {"bucket_cap_mb": SMALL_BUCKET_MB},
            "cap_list": {"bucket_cap_mb_list": [SMALL_BUCKET_MB, 2 * SMALL_BUCKET_MB]},
            "skip_unused": {"skip_all_reduce_unused_params": True},
            "no_broadcast": {"broadcast_buffers": False},
        }[word])
    return options


def exact_average(_, bucket):
    size = dist.get_world_size()
    parts = [torch.empty_like(bucket.buffer()) for _ in range(size)]
    dist.all_gather(parts, bucket.buffer())
    total = parts[0]
    for part in parts[1:]:
        total += part
    future = torch.futures.Future()
    future.set_result(total.mul_(1.0 / size))
    return future


def hex_of(tensor):
    if tensor is None:
        return None
    dense = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    values = dense.contiguous().numpy()
    return {"float32": "f", "float64": "d", "int64": "q"}[str(values.dtype)] + ":" + values.tobytes().hex()


def run_steps(row, steps, outcome):
    rank = dist.get_rank()
    loop = SCENARIOS[row["scenario"]](options_of(row["options"]))
    if row["codec"] == "exact":
        for ddp in loop.ddps:
            ddp.register_comm_hook(None, exact_average)
    for step in range(steps):
        outcome["refused_at"] = step
        loop.step(rank, step)
        outcome["steps"].append({name: hex_of(p.grad) for name, p in loop.model.named_parameters()})
        with torch.no_grad():
            for parameter in loop.model.parameters():
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=-0.1)
    outcome["state"] = {name: hex_of(tensor) for name, tensor in
                        [*loop.model.named_parameters(), *loop.model.named_buffers()]}


def run_combination(row, steps, store, rank, size):
    outcome = {"id": row["id"], "refused_at": -1, "steps": [], "state": {}}
    dist.init_process_group("gloo", store=dist.PrefixStore(row["id"], store), rank=rank, world_size=size,
                            timeout=TIMEOUT)
    try:
        run_steps(row, steps, outcome)
        del outcome["refused_at"]
    except Exception as error:  # whatever PyTorch refuses with
        outcome["error"] = f"{type(error).__name__}: {error}"
    gc.collect()  # the Reducer holds the group; a rank that refused must not keep others waiting
    dist.destroy_process_group()
    return outcome


def main():
    table, results, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    gc.freeze()  # what is collected after each combination is then little
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, rank == 0)
    with open(table) as lines, open(results, "w") as out:
        for line in lines:
            row = dict(zip(("id", "scenario", "codec", "options"), line.split()))
            print(json.dumps({"begun": row["id"]}), file=out, flush=True)
            print(json.dumps(run_combination(row, steps, store, rank, size)), file=out, flush=True)
    store.set(f"ended/{rank}", "")
    if rank == 0:  # it holds the store
        store.wait([f"ended/{other}" for other in range(size)])


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main()
