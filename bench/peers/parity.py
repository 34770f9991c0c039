"""One rank of the parity run under Python: trains and writes what it ends with.

usage: parity.py NAME STEPS FILE   (rank and world from torchrun's environment names)
"""

import os
import sys

import torch
import torch.distributed as dist

import reference_training


def main():
    name, steps, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    model = reference_training.train_reference(name, dist.get_rank(), dist.get_world_size(), steps)
    with open(path, "wb") as out:
        for tensor in [*model.parameters(), *model.buffers()]:
            out.write(tensor.detach().contiguous().numpy().tobytes())
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main()
