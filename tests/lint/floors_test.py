"""Reads every #include and fails where a file reaches above its own floor, where torch or gRPC leave
their rooms, or where one file includes torch together with a library whose headers clash with it.

usage: floors_test.py SOURCE_DIR
"""

import pathlib
import re
import subprocess
import sys

# Lowest first (docs/architecture.md). A file may include its own floor and those before it.
FLOORS = ["base", "wire", "membership", "codec", "collectives", "ddp", "control", "runtime"]
TORCH_FLOORS = {"collectives", "ddp", "runtime"}
CLASHES_WITH_TORCH = ("spdlog/", "fmt/", "google/protobuf/", "grpc", "longhaul/v1/")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def floor_of_include(include: str) -> str | None:
    parts = include.split("/")
    if parts[0] == "longhaul" and len(parts) > 2:
        parts = parts[1:]
    return parts[0] if len(parts) > 1 and parts[0] in FLOORS else None


def floor_of_file(path: str) -> str | None:
    match = re.match(r"(?:include/longhaul|src)/(\w+)/", path)
    return match.group(1) if match else None


def is_torch(include: str) -> bool:
    return include.startswith(("torch/", "ATen/", "c10/", "caffe2/"))


def is_grpc(include: str) -> bool:
    return include.startswith(("grpc", "google/protobuf/")) or re.match(r"longhaul/v1/.*\.pb\.h", include) is not None


def complaints(path: str, includes: list[str]) -> list[str]:
    found = []
    floor = floor_of_file(path)
    for include in includes:
        target = floor_of_include(include)
        if floor and target and FLOORS.index(target) > FLOORS.index(floor):
            found.append(f"{path}: floor '{floor}' includes {include} of the higher floor '{target}'")
        if is_grpc(include) and not re.match(r"(src|tests)/control/|bench/control\.cc", path):
            found.append(f"{path}: {include}: gRPC types live in src/control only")
        if is_torch(include) and floor and floor not in TORCH_FLOORS:
            found.append(f"{path}: {include}: floor '{floor}' knows no torch")
        if is_torch(include) and path.startswith("apps/"):
            found.append(f"{path}: {include}: daemons and command line know no torch")
        if path.startswith("include/") and include == "torch/torch.h":
            found.append(f"{path}: public headers never include <torch/torch.h>")
    if any(map(is_torch, includes)):
        for include in includes:
            if include.startswith(CLASHES_WITH_TORCH):
                found.append(f"{path}: {include} clashes with torch's own copy")
    if path.startswith("include/longhaul/") and re.match(r"include/longhaul/\w+/", path) and floor not in FLOORS:
        found.append(f"{path}: '{floor}' is no floor")
    return found


def main() -> int:
    source = pathlib.Path(sys.argv[1])
    listed = subprocess.run(["git", "-C", str(source), "ls-files", "-co", "--exclude-standard", "*.h", "*.cc"],
                            check=True, capture_output=True, text=True).stdout.split()
    # The checks must be able to fail.
    assert complaints("src/base/x.cc", ["longhaul/codec/codec.h"])
    assert complaints("include/longhaul/codec/x.h", ["ATen/core/Tensor.h"])
    assert complaints("src/runtime/x.cc", ["torch/torch.h", "spdlog/spdlog.h"])
    assert complaints("apps/cli/x.cc", ["grpcpp/grpcpp.h"])
    assert not complaints("src/ddp/x.cc", ["torch/torch.h", "longhaul/codec/codec.h", "ddp/y.h"])
    found = []
    for path in sorted(listed):
        if (source / path).exists():
            found += complaints(path, INCLUDE.findall((source / path).read_text()))
    print("\n".join(found) or f"{len(listed)} files keep to their floors")
    return 1 if found or len(listed) < 20 else 0


if __name__ == "__main__":
    sys.exit(main())
