# The house: each room, what it is, and all that it needs (cmake/LonghaulRoom.cmake says how to read a line). A room
# stands after those that it needs. A new one is a folder and a line here; tools/house.py draws them into
# docs/architecture.md.

# --- core: what a trainer links; knows nothing of jobs, arrays, placement or databases
# Result, Error, Clock, log, annotated Mutex, named Thread, queue, JSON
longhaul_room(NAME base)
# frames with checksums, TCP helpers
longhaul_room(NAME wire NEEDS base)
# float spans <-> payload bytes: lossless and lossy, with entropy stages
longhaul_room(NAME codec NEEDS base)
# what a rank and whoever runs it say to each other, as values: ids, Coordinator, leases, shards
longhaul_room(NAME agent NEEDS base)
# connections between ranks: frames, many operations at once, cut short at any time
longhaul_room(NAME links NEEDS agent base wire)
# gRPC's messages and stubs, generated
longhaul_room(NAME proto USES GRPC)
# gRPC as Longhaul uses it: channels, credentials, limits of servers, errors
longhaul_room(NAME rpc NEEDS base USES GRPC)
# the Coordinator that calls a worker
longhaul_room(NAME agent/client NEEDS agent base proto rpc USES GRPC)
# process groups over Gloo or NCCL with deadlines, peer monitor, compressed all-reduce; the one place where c10d's exceptions become ours
longhaul_room(NAME collectives NEEDS agent base codec links wire USES TORCH)
# DistributedDataParallel over c10d::Reducer, the communication hook, no_sync
longhaul_room(NAME ddp NEEDS agent base codec collectives USES TORCH)
# init() -> World: reads the agent socket or the environment, builds store, communicator, progress reporter
longhaul_room(NAME runtime NEEDS agent base collectives ddp MAY_NEED agent/client USES TORCH)

# --- cluster: who runs what, where, and whose fault it was; values and decisions, no disk, no gRPC, no torch
# jobs, arrays, shards, scheduling, workers, failure, store, and the state of a whole cluster
longhaul_room(NAME cluster NEEDS agent base USES CONTROL INTERNAL)

# --- control: gRPC, disk and processes round the cluster
# values <-> messages, results <-> zstd frames
longhaul_room(NAME control/convert NEEDS agent agent/client base cluster proto USES GRPC INTERNAL)
# the master's SQLite, a noun a file, and its result files; the only place with SQLite
longhaul_room(NAME control/database NEEDS agent agent/client base cluster control/convert proto wire USES GRPC INTERNAL)
# core (the owner thread), rpc (one call a file), feeds (what readers follow), results
longhaul_room(NAME control/master NEEDS base cluster control/convert control/database proto rpc wire USES GRPC INTERNAL)
# session, agent, gangs, tasks, process, output, host
longhaul_room(NAME control/worker NEEDS agent/client base cluster control/convert proto rpc wire USES GRPC INTERNAL)
# calls to a master, and following a job
longhaul_room(NAME control/client NEEDS agent/client base cluster control/convert proto rpc USES GRPC INTERNAL)

# --- apps: flags in, parts built, run()
# the parent process of one rank: its process tree and its output
longhaul_room(NAME apps/shim NEEDS control/worker USES CONTROL INTERNAL)
# longhaul-master
longhaul_room(NAME apps/master NEEDS base control/database control/master rpc USES GRPC INTERNAL)
# longhaul-worker
longhaul_room(NAME apps/worker NEEDS base control/worker rpc USES GRPC INTERNAL)
# longhaul
longhaul_room(NAME apps/cli NEEDS agent base cluster control/client control/convert control/master control/worker USES GRPC INTERNAL)
