"""A program as it is written for torchrun: it knows os.environ and its peers, nothing of Longhaul. Each step the ranks add
up a number; rank 0 writes down that the step is done, and after a restart all go on behind it. With --gloo by
torch.distributed, else by plain sockets to rank 0.

usage: torchrun_program.py CHECKPOINT STEPS SECONDS_A_STEP [--gloo]"""

import os
import pathlib
import socket
import sys
import time

RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
RESTARTS = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
ADDRESS = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))


class SocketSum:
    """All numbers to rank 0, their sum back."""

    def __init__(self):
        if RANK == 0:
            listener = socket.create_server(ADDRESS)
            self.peers = [listener.accept()[0].makefile("rw") for _ in range(WORLD_SIZE - 1)]
        else:
            self.peers = [self.dial().makefile("rw")]

    @staticmethod
    def dial():
        while True:
            try:
                return socket.create_connection(ADDRESS)
            except ConnectionRefusedError:
                time.sleep(0.01)

    def sum(self, number):
        if RANK == 0:
            total = number + sum(int(peer.readline()) for peer in self.peers)
            self.send(total)
            return total
        self.send(number)
        return int(self.peers[0].readline())

    def send(self, number):
        for peer in self.peers:
            peer.write(f"{number}\n")
            peer.flush()


class GlooSum:
    def __init__(self):
        import torch
        import torch.distributed
        self.torch = torch
        torch.distributed.init_process_group("gloo")

    def sum(self, number):
        tensor = self.torch.tensor([number])
        self.torch.distributed.all_reduce(tensor)
        return int(tensor[0])


def main():
    checkpoint, steps, pause = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    world = GlooSum() if "--gloo" in sys.argv else SocketSum()
    done = len(checkpoint.read_text().split()) if RANK == 0 and checkpoint.exists() else 0
    done = world.sum(done)  # rank 0's
    host = socket.gethostname()
    print(f"rank {RANK} (local {os.environ['LOCAL_RANK']}) of {WORLD_SIZE} on {host}, attempt {RESTARTS}, from step {done}",
          flush=True)
    for step in range(done, steps):
        total = world.sum(step * 100 + RANK)
        if RANK == 0:
            with checkpoint.open("a", encoding="utf-8") as file:
                file.write(f"{total}\n")
        time.sleep(pause)
    print(f"rank {RANK} has done {steps} steps", flush=True)


main()
