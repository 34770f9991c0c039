longhaul_test(control_worker GRPC
  SOURCES
    agent_client_test.cc
    host_resources_test.cc
    worker_host_test.cc
    worker_oom_test.cc
    worker_output_test.cc
    worker_process_test.cc
    worker_restart_test.cc
    worker_test.cc
  FLOORS worker)
# Tests find both beside themselves.
add_dependencies(control_worker_test longhaul-shim longhaul-worker)
