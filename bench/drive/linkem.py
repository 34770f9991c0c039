"""How true linkem's links are: rate, round-trip time and loss against what was asked for, seen from the
hosts through the kernel's own UDP; and how much TCP passes in all. As root."""

import json
import os
import pathlib
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from common import BIN, Parser, emit, emit_median

PORT = 5000
IP_AND_UDP = 28
PAYLOAD = 1472
END = b"end"


# --- On the hosts: this file again, as `linkem.py on-host MODE VALUE SECONDS` ----------------------

def udp(address=None):
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if address:
        end.bind((address, PORT))
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return end


def sink(me, rate, seconds):
    """Receives datagrams; the rate over all but the first tenth of the time, and how many there were."""
    end, marks, largest = udp(me), [], 0
    end.settimeout(20)
    first_wait = True
    while True:
        try:
            data = end.recv(2048)
        except TimeoutError:
            break
        if first_wait:
            first_wait = False
            end.settimeout(2)
        if data[:3] == END:
            break
        marks.append(time.perf_counter())
        largest = max(largest, struct.unpack_from("<Q", data)[0])
    start = marks[0] + seconds / 10
    steady = [mark for mark in marks if start <= mark <= marks[0] + seconds * 0.9]
    bits = (len(steady) - 1) * (PAYLOAD + IP_AND_UDP) * 8
    print(json.dumps({"rate": bits / (steady[-1] - steady[0]), "received": len(marks), "sent": largest + 1}))


def source(to, rate, seconds):
    """Sends at `rate` (bits/s of IP) in bursts of a millisecond."""
    end, sent = udp(), 0
    time.sleep(0.5)
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        while sent * (PAYLOAD + IP_AND_UDP) * 8 < rate * passed:
            end.sendto(struct.pack("<Q", sent).ljust(PAYLOAD, b"."), (to, PORT))
            sent += 1
        time.sleep(0.001)
    time.sleep(0.5)
    for _ in range(20):
        end.sendto(END, (to, PORT))


def echo(me, *_):
    end = udp(me)
    while True:
        data, sender = end.recvfrom(2048)
        if data[:3] == END:
            return
        end.sendto(data, sender)


def ping(to, count, _):
    end, times = udp(), []
    end.settimeout(5)
    time.sleep(0.5)
    for _ in range(int(count)):
        start = time.perf_counter()
        end.sendto(b"ping", (to, PORT))
        end.recv(64)
        times.append((time.perf_counter() - start) * 1000)
    end.sendto(END, (to, PORT))
    print(json.dumps({"times_ms": times}))


def drain(me, *_):
    listener = socket.create_server((me, PORT))
    connection, _ = listener.accept()
    buffer = bytearray(1 << 20)
    while connection.recv_into(buffer):
        pass


def pour(to, _, seconds):
    while True:
        try:
            connection = socket.create_connection((to, PORT))
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    data, end = bytes(1 << 18), time.perf_counter() + seconds
    while time.perf_counter() < end:
        connection.sendall(data)


ROLES = {"rate": (sink, source), "ping": (echo, ping), "pour": (drain, pour)}


def on_host(mode, value, seconds):
    """Even hosts receive, the next odd one sends to them."""
    host, peers = int(os.environ["LINKEM_HOST"]), os.environ["LINKEM_PEERS"].split(",")
    receive, send = ROLES[mode]
    if host % 2 == 0:
        receive(peers[host], value, seconds)
    else:
        send(peers[host - 1], value, seconds)


# --- Here -----------------------------------------------------------------------------------------

def emulate(linkem, flags, mode, value, seconds):
    """What the hosts printed, and linkem's report."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        done = subprocess.run(
            [linkem, "run", "--no-prefix", "-o", "none", "--report", report.name, *flags, "--",
             sys.executable, __file__, "on-host", mode, str(value), str(seconds)],
            stdout=subprocess.PIPE, text=True, timeout=300)
        if done.returncode:
            sys.exit(f"linkem {' '.join(flags)}: exit code {done.returncode}")
        printed = [json.loads(line) for line in done.stdout.splitlines()]
        return printed, json.loads(pathlib.Path(report.name).read_text())


def bench_rate(linkem, options):
    for text, rate in (("1mbit", 1e6), ("5mbit", 5e6), ("25mbit", 25e6), ("100mbit", 1e8), ("400mbit", 4e8)):
        runs = [emulate(linkem, ["--hosts", "2", "--rate", text, "--rtt", "20ms"], "rate", rate * 1.2,
                        options.seconds)[0][0]["rate"] / rate for _ in range(options.runs)]
        emit_median("linkem", text, "measured rate / rate", runs, "ratio", 1)


def bench_delay(linkem, options):
    for text, rtt in (("1ms", 1), ("20ms", 20), ("100ms", 100), ("300ms", 300)):
        count = max(10, int(options.seconds * 1000 / (rtt + 1)))
        times = sorted(emulate(linkem, ["--hosts", "2", "--rtt", text], "ping", count, 0)[0][0]["times_ms"])
        emit("linkem", f"rtt {text}", "median RTT - RTT", round(statistics.median(times) - rtt, 3), "ms", count, target=1)
        emit("linkem", f"rtt {text}", "p99 RTT - RTT", round(times[int(count * 0.99)] - rtt, 3), "ms", count, target=1)
        emit("linkem", f"rtt {text}", "least RTT - RTT", round(times[0] - rtt, 3), "ms", count)


def bench_loss(linkem, options):
    for text, loss in (("0.5%", 0.005), ("5%", 0.05)):
        printed, _ = emulate(linkem, ["--hosts", "2", "--loss", text], "rate", 1e8, options.seconds)
        share = 1 - printed[0]["received"] / printed[0]["sent"]
        emit("linkem", f"loss {text}", "measured loss", round(share, 5), "share", printed[0]["sent"], target=loss)


def bench_throughput(linkem, options):
    for hosts, flags in ((2, []), (4, []), (4, ["--rate", "1gbit", "--rtt", "20ms"]), (2, ["--mtu", "9000"])):
        rates, late, dropped = [], [], []
        for _ in range(options.runs):
            _, report = emulate(linkem, ["--hosts", str(hosts), *flags], "pour", 0, options.seconds)
            bits = sum(link["delivered_bytes"] for link in report["links"] if link["direction"] == "down") * 8
            rates.append(bits / options.seconds / 1e9)
            late.append(report["lateness_us"]["p99"])
            dropped.append(report["dropped_at_device"])
        case = " ".join([f"{hosts} hosts, {hosts // 2} TCP", *flags])
        emit_median("linkem", case, "IP bytes delivered, all links", rates, "Gbit/s",
                    None if "1gbit" in flags else 2)
        emit("linkem", case, "99 % late by less than", statistics.median(late), "us", options.runs)
        emit("linkem", case, "dropped before the model", sum(dropped), "packets", options.runs)


def main():
    parser = Parser("linkem", __doc__)
    parser.add_argument("--seconds", type=float, default=4, help="of traffic a run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["rate", "delay", "loss", "throughput"], default=None)
    parser.add_argument("--linkem", default=BIN / "linkem", help="the program (build/bench/bin/linkem)")
    options = parser.parse_args()
    for name, bench in (("rate", bench_rate), ("delay", bench_delay), ("loss", bench_loss),
                        ("throughput", bench_throughput)):
        if options.only in (None, name):
            bench(str(options.linkem), options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["on-host"]:
        on_host(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
