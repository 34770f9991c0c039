#include "collectives/links_backend.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>
#include <utility>

#include "collectives/gloo_order.h"
#include "collectives/reduce_elements.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using Tensors = LinksBackend::Tensors;
using TensorLists = LinksBackend::TensorLists;

// A part of a chunk that is added up and sent on by itself, while the next one is on its way.
constexpr size_t kPartBytes = size_t{1} << 20;
// Numbers of transfers, which users choose (tags), are apart from those of collectives.
constexpr uint64_t kTransfer = uint64_t{1} << 61;

void check_tensor(const char* operation, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined(), operation, ": a tensor is not defined");
  TORCH_CHECK(tensor.layout() == c10::kStrided, operation,
              ": only dense tensors (sparse ones are for all-reduce)");
  TORCH_CHECK(tensor.is_cpu(), operation, ": tensors are on the CPU, not on ", tensor.device());
  // The memory of such a view holds other values than the view has.
  TORCH_CHECK(!tensor.is_conj() && !tensor.is_neg(), operation,
              ": of a conjugated or negated view give resolve_conj() or resolve_neg()");
}

void check_same(const char* operation, const at::Tensor& one, const at::Tensor& other) {
  check_tensor(operation, other);
  TORCH_CHECK(one.scalar_type() == other.scalar_type(), operation, ": tensors of one type, not ",
              one.scalar_type(), " and ", other.scalar_type());
  TORCH_CHECK(one.sizes() == other.sizes(), operation, ": tensors of one shape, not ", one.sizes(),
              " and ", other.sizes());
}

// The tensor itself, where its elements lie one behind the other in the order of its indices, else
// a copy of it that does.
at::Tensor flat_of(const at::Tensor& tensor) {
  return tensor.detach().contiguous().view(-1);
}

// Room for what becomes the tensor's elements: the tensor's own, or other that is copied.
at::Tensor room_of(const at::Tensor& tensor) {
  if (tensor.is_contiguous()) return tensor.detach().view(-1);
  return at::empty({tensor.numel()}, tensor.options().requires_grad(false));
}

void copy_back(const at::Tensor& flat, const at::Tensor& tensor) {
  if (flat.data_ptr() == tensor.data_ptr()) return;
  tensor.copy_(flat.view(tensor.sizes()));
}

ByteSpan span_of(const at::Tensor& flat) {
  return {static_cast<const uint8_t*>(flat.data_ptr()), flat.nbytes()};
}
MutableByteSpan room_in(const at::Tensor& flat) {
  return {static_cast<uint8_t*>(flat.data_ptr()), flat.nbytes()};
}

// As real numbers, which is how complex ones are added.
at::Tensor real_of(const char* operation, const at::Tensor& tensor, const c10d::ReduceOp& op) {
  if (!tensor.is_complex()) return tensor;
  TORCH_CHECK(op == c10d::ReduceOp::SUM || op == c10d::ReduceOp::AVG, operation,
              ": of complex numbers there are sums and averages only");
  return at::view_as_real(tensor);
}

std::chrono::milliseconds limit_of(std::chrono::milliseconds wanted,
                                   std::chrono::milliseconds own) {
  return wanted.count() > 0 ? wanted : own;
}

}  // namespace

LinksBackend::~LinksBackend() {
  if (!operations_->on_own_thread()) return;
  // A future's callback has dropped the last reference, on the thread that would have to be joined.
  std::thread([operations = std::move(operations_)]() mutable { operations.reset(); }).detach();
}

void LinksBackend::check_root(const char* operation, int64_t root) const {
  TORCH_CHECK(root >= 0 && root < getSize(), operation, ": the root is rank ", root,
              " in a world of ", getSize());
}

LinksBackend::Call LinksBackend::begin(c10d::OpType type, TensorLists results,
                                       std::chrono::milliseconds timeout, Tensors keep,
                                       std::function<void()> last) {
  const uint64_t number = sequence_++;
  auto work = c10::make_intrusive<LinksWork>(type, std::move(results), number);
  const auto ended = [work, keep = std::move(keep),
                      last = std::move(last)](const std::exception_ptr& error) {
    if (error || !last) return work->end(error);
    try {
      const at::NoGradGuard no_gradients;
      last();
      work->end(nullptr);
    } catch (...) {
      work->end(std::current_exception());
    }
  };
  return {operations_->begin(number, limit_of(timeout, timeout_.load()), ended), work};
}

LinksBackend::WorkPtr LinksBackend::made(const Call& call) {
  operations_->made(call.operation);
  return call.work;
}

void LinksBackend::abort() {
  operations_->links().abort(
      {ErrorKind::kPeerLost, getRank(), str_cat("rank ", getRank(), " aborted its group")});
}

// --- Exchanges ---------------------------------------------------------------------------------

void LinksBackend::exchange(const Call& call, const std::vector<ByteSpan>& to,
                            const std::vector<MutableByteSpan>& from) {
  const auto strand = operations_->strand(call.operation);
  for (Rank rank = 0; rank < getSize(); ++rank) {
    if (rank != getRank()) strand->receive(rank, from[static_cast<size_t>(rank)]);
  }
  // Each begins with the rank behind its own, so that not all send to the same one at once.
  for (int step = 1; step < getSize(); ++step) {
    const Rank rank = (getRank() + step) % getSize();
    strand->send(rank, to[static_cast<size_t>(rank)]);
  }
  const auto self = static_cast<size_t>(getRank());
  if (!to[self].empty()) std::memmove(from[self].data(), to[self].data(), to[self].size());
  strand->end();
}

LinksBackend::WorkPtr LinksBackend::broadcast(Tensors& tensors,
                                              const c10d::BroadcastOptions& options) {
  constexpr const char* kName = "broadcast";
  check_root(kName, options.rootRank);
  TORCH_CHECK(options.rootTensor >= 0 && options.rootTensor < static_cast<int64_t>(tensors.size()),
              kName, ": there is no tensor ", options.rootTensor);
  check_tensor(kName, tensors[0]);
  for (const at::Tensor& tensor : tensors) check_same(kName, tensors[0], tensor);
  const at::Tensor source = tensors[static_cast<size_t>(options.rootTensor)];
  const auto root = static_cast<Rank>(options.rootRank);
  const bool is_root = root == getRank();
  const at::Tensor flat = is_root ? flat_of(source) : room_of(source);
  Call call = begin(c10d::OpType::BROADCAST, {tensors}, options.timeout, {flat},
                    [flat, tensors, is_root, source] {
                      for (const at::Tensor& tensor : tensors) {
                        if (!is_root || !tensor.is_same(source)) copy_back(flat, tensor);
                      }
                    });
  const auto strand = operations_->strand(call.operation);
  if (!is_root) strand->receive(root, room_in(flat));
  for (int step = 1; is_root && step < getSize(); ++step) {
    strand->send((root + step) % getSize(), span_of(flat));
  }
  strand->end();
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::gather_all(c10d::OpType type, TensorLists results,
                                               const Tensors& inputs, const TensorLists& by_rank,
                                               std::chrono::milliseconds timeout) {
  Tensors keep;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  std::vector<Tensors> rooms(by_rank.size());
  Tensors own;
  for (const at::Tensor& input : inputs) own.push_back(flat_of(input));
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    for (const at::Tensor& output : by_rank[rank]) {
      rooms[rank].push_back(room_of(output));
      copies.emplace_back(rooms[rank].back(), output);
    }
  }
  keep.insert(keep.end(), own.begin(), own.end());
  Call call = begin(type, std::move(results), timeout, std::move(keep), [copies] {
    for (const auto& [flat, tensor] : copies) copy_back(flat, tensor);
  });
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::vector<ByteSpan> to(by_rank.size(), span_of(own[i]));
    std::vector<MutableByteSpan> from;
    from.reserve(rooms.size());
    for (const Tensors& rank : rooms) from.push_back(room_in(rank[i]));
    exchange(call, to, from);
  }
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::allgather(TensorLists& outputs, Tensors& inputs,
                                              const c10d::AllgatherOptions& options) {
  constexpr const char* kName = "all-gather";
  const auto ranks = static_cast<size_t>(getSize());
  TORCH_CHECK(!inputs.empty(), kName, ": there is no input");
  TORCH_CHECK(outputs.size() == inputs.size(), kName, ": a list of outputs for each input");
  check_tensor(kName, inputs[0]);
  for (const at::Tensor& input : inputs) check_same(kName, inputs[0], input);
  // Of k inputs a rank, every list has those of rank 0, then those of rank 1.
  TensorLists by_rank(ranks);
  for (const Tensors& list : outputs) {
    TORCH_CHECK(list.size() == ranks * inputs.size(), kName, ": a list of outputs has ",
                ranks * inputs.size(), " tensors, not ", list.size());
    for (const at::Tensor& output : list) check_same(kName, inputs[0], output);
  }
  TORCH_CHECK(inputs.size() == 1, kName, ": one input a rank");
  for (size_t rank = 0; rank < ranks; ++rank) by_rank[rank] = {outputs[0][rank]};
  return gather_all(c10d::OpType::ALLGATHER, outputs, inputs, by_rank, options.timeout);
}

LinksBackend::WorkPtr LinksBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                    const c10d::AllgatherOptions& options) {
  constexpr const char* kName = "all-gather";
  check_tensor(kName, output);
  check_tensor(kName, input);
  TORCH_CHECK(output.is_contiguous() && output.scalar_type() == input.scalar_type() &&
                  output.numel() == input.numel() * getSize(),
              kName, ": the output is contiguous, of the input's type and ", getSize(),
              " times its size");
  TensorLists by_rank;
  for (const at::Tensor& part : output.detach().view({getSize(), -1}).unbind(0)) {
    by_rank.push_back({part});
  }
  Tensors inputs{input};
  return gather_all(c10d::OpType::_ALLGATHER_BASE, {{output}}, inputs, by_rank, options.timeout);
}

LinksBackend::WorkPtr LinksBackend::allgather_coalesced(TensorLists& outputs, Tensors& inputs,
                                                        const c10d::AllgatherOptions& options) {
  constexpr const char* kName = "coalesced all-gather";
  TORCH_CHECK(!inputs.empty(), kName, ": there is no input");
  TORCH_CHECK(outputs.size() == static_cast<size_t>(getSize()), kName,
              ": a list of outputs for each rank");
  for (const Tensors& list : outputs) {
    TORCH_CHECK(list.size() == inputs.size(), kName, ": an output for each input");
    for (size_t i = 0; i < inputs.size(); ++i) {
      check_tensor(kName, inputs[i]);
      check_same(kName, inputs[i], list[i]);
    }
  }
  return gather_all(c10d::OpType::ALLGATHER_COALESCED, outputs, inputs, outputs, options.timeout);
}

LinksBackend::WorkPtr LinksBackend::allgather_into_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) {
  constexpr const char* kName = "coalesced all-gather";
  TORCH_CHECK(outputs.size() == inputs.size() && !inputs.empty(), kName,
              ": an output for each input");
  TensorLists by_rank(static_cast<size_t>(getSize()));
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_tensor(kName, inputs[i]);
    check_tensor(kName, outputs[i]);
    TORCH_CHECK(outputs[i].is_contiguous() && outputs[i].scalar_type() == inputs[i].scalar_type() &&
                    outputs[i].numel() == inputs[i].numel() * getSize(),
                kName, ": an output is contiguous, of its input's type and ", getSize(),
                " times its size");
    const Tensors parts = outputs[i].detach().view({getSize(), -1}).unbind(0);
    for (size_t rank = 0; rank < parts.size(); ++rank) by_rank[rank].push_back(parts[rank]);
  }
  return gather_all(c10d::OpType::COALESCED, {outputs}, inputs, by_rank, options.timeout);
}

LinksBackend::WorkPtr LinksBackend::gather(TensorLists& outputs, Tensors& inputs,
                                           const c10d::GatherOptions& options) {
  constexpr const char* kName = "gather";
  check_root(kName, options.rootRank);
  TORCH_CHECK(inputs.size() == 1, kName, ": one input");
  check_tensor(kName, inputs[0]);
  const auto root = static_cast<Rank>(options.rootRank);
  const bool is_root = root == getRank();
  const auto ranks = static_cast<size_t>(getSize());
  TORCH_CHECK(is_root ? outputs.size() == 1 && outputs[0].size() == ranks : outputs.empty(), kName,
              is_root ? ": the root has one list of an output for each rank"
                      : ": ranks that are not the root have no outputs");
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  if (is_root) {
    for (const at::Tensor& output : outputs[0]) {
      check_same(kName, inputs[0], output);
      copies.emplace_back(room_of(output), output);
    }
  }
  const at::Tensor own = flat_of(inputs[0]);
  Call call = begin(c10d::OpType::GATHER, is_root ? outputs : TensorLists(), options.timeout, {own},
                    [copies] {
                      for (const auto& [flat, tensor] : copies) copy_back(flat, tensor);
                    });
  const auto strand = operations_->strand(call.operation);
  if (!is_root) strand->send(root, span_of(own));
  for (Rank rank = 0; is_root && rank < getSize(); ++rank) {
    const at::Tensor& room = copies[static_cast<size_t>(rank)].first;
    if (rank == root) {
      room.copy_(own);
    } else {
      strand->receive(rank, room_in(room));
    }
  }
  strand->end();
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::scatter(Tensors& outputs, TensorLists& inputs,
                                            const c10d::ScatterOptions& options) {
  constexpr const char* kName = "scatter";
  check_root(kName, options.rootRank);
  TORCH_CHECK(outputs.size() == 1, kName, ": one output");
  check_tensor(kName, outputs[0]);
  const auto root = static_cast<Rank>(options.rootRank);
  const bool is_root = root == getRank();
  const auto ranks = static_cast<size_t>(getSize());
  TORCH_CHECK(is_root ? inputs.size() == 1 && inputs[0].size() == ranks : inputs.empty(), kName,
              is_root ? ": the root has one list of an input for each rank"
                      : ": ranks that are not the root have no inputs");
  Tensors parts;
  for (size_t rank = 0; is_root && rank < ranks; ++rank) {
    check_same(kName, outputs[0], inputs[0][rank]);
    parts.push_back(flat_of(inputs[0][rank]));
  }
  const at::Tensor flat = is_root ? parts[static_cast<size_t>(root)] : room_of(outputs[0]);
  Call call = begin(c10d::OpType::SCATTER, {outputs}, options.timeout, parts,
                    [flat, output = outputs[0]] { copy_back(flat, output); });
  const auto strand = operations_->strand(call.operation);
  if (!is_root) strand->receive(root, room_in(flat));
  for (int step = 1; is_root && step < getSize(); ++step) {
    const Rank rank = (root + step) % getSize();
    strand->send(rank, span_of(parts[static_cast<size_t>(rank)]));
  }
  strand->end();
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::alltoall_base(at::Tensor& output, at::Tensor& input,
                                                  std::vector<int64_t>& output_splits,
                                                  std::vector<int64_t>& input_splits,
                                                  const c10d::AllToAllOptions& options) {
  constexpr const char* kName = "all-to-all";
  check_tensor(kName, output);
  check_tensor(kName, input);
  TORCH_CHECK(output.is_contiguous() && input.is_contiguous(), kName, ": tensors are contiguous");
  TORCH_CHECK(output.scalar_type() == input.scalar_type(), kName, ": tensors of one type");
  const int64_t ranks = getSize();
  // In elements. Without splits both are divided evenly; splits count rows.
  const auto parts_of = [&](const at::Tensor& tensor, const std::vector<int64_t>& splits) {
    if (splits.empty()) {
      TORCH_CHECK(tensor.numel() % ranks == 0, kName, ": ", tensor.numel(),
                  " elements are not divided evenly among ", ranks, " ranks");
      return std::vector<int64_t>(static_cast<size_t>(ranks), tensor.numel() / ranks);
    }
    TORCH_CHECK(tensor.dim() > 0 && splits.size() == static_cast<size_t>(ranks), kName,
                ": a split for each rank");
    int64_t rows = 0;
    for (const int64_t split : splits) {
      TORCH_CHECK(split >= 0 && split <= tensor.size(0), kName, ": a split of ", split, " rows");
      rows += split;
    }
    TORCH_CHECK(rows == tensor.size(0), kName, ": splits of ", rows, " rows for a tensor of ",
                tensor.size(0));
    std::vector<int64_t> parts = splits;
    const int64_t row = tensor.size(0) == 0 ? 0 : tensor.numel() / tensor.size(0);
    for (int64_t& part : parts) part *= row;
    return parts;
  };
  const std::vector<int64_t> out_parts = parts_of(output, output_splits);
  const std::vector<int64_t> in_parts = parts_of(input, input_splits);
  const auto self = static_cast<size_t>(getRank());
  TORCH_CHECK(out_parts[self] == in_parts[self], kName, ": what this rank gives itself has ",
              in_parts[self], " elements there and ", out_parts[self], " here");
  std::vector<ByteSpan> to;
  std::vector<MutableByteSpan> from;
  size_t in_at = 0;
  size_t out_at = 0;
  for (size_t rank = 0; rank < in_parts.size(); ++rank) {
    const size_t in = static_cast<size_t>(in_parts[rank]) * input.element_size();
    const size_t out = static_cast<size_t>(out_parts[rank]) * output.element_size();
    to.push_back(span_of(input).subspan(in_at, in));
    from.push_back(room_in(output).subspan(out_at, out));
    in_at += in;
    out_at += out;
  }
  Call call = begin(c10d::OpType::ALLTOALL_BASE, {{output}}, options.timeout, {input, output});
  exchange(call, to, from);
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::alltoall(Tensors& outputs, Tensors& inputs,
                                             const c10d::AllToAllOptions& options) {
  constexpr const char* kName = "all-to-all";
  const auto ranks = static_cast<size_t>(getSize());
  TORCH_CHECK(outputs.size() == ranks && inputs.size() == ranks, kName,
              ": an input and an output for each rank");
  Tensors keep;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  std::vector<ByteSpan> to;
  std::vector<MutableByteSpan> from;
  for (size_t rank = 0; rank < ranks; ++rank) {
    check_tensor(kName, inputs[rank]);
    check_tensor(kName, outputs[rank]);
    keep.push_back(flat_of(inputs[rank]));
    copies.emplace_back(room_of(outputs[rank]), outputs[rank]);
  }
  const auto self = static_cast<size_t>(getRank());
  TORCH_CHECK(keep[self].nbytes() == copies[self].first.nbytes(), kName,
              ": what this rank gives itself is of one size");
  for (size_t rank = 0; rank < ranks; ++rank) {
    to.push_back(span_of(keep[rank]));
    from.push_back(room_in(copies[rank].first));
  }
  Call call = begin(c10d::OpType::ALLTOALL, {outputs}, options.timeout, keep, [copies] {
    for (const auto& [flat, tensor] : copies) copy_back(flat, tensor);
  });
  exchange(call, to, from);
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::barrier(const c10d::BarrierOptions& options) {
  Call call = begin(c10d::OpType::BARRIER, {}, options.timeout, {});
  exchange(call, std::vector<ByteSpan>(static_cast<size_t>(getSize())),
           std::vector<MutableByteSpan>(static_cast<size_t>(getSize())));
  return made(call);
}

// --- Reductions --------------------------------------------------------------------------------

// Each chunk has an owner, to whom all send theirs, who adds them up in Gloo's order and sends the
// sum to all. Parts of a chunk go by themselves: one is added up while the next is on its way.
void LinksBackend::reduce_all(const Call& call, const at::Tensor& flat, const c10d::ReduceOp& op) {
  const c10::ScalarType type = flat.scalar_type();
  const size_t element = flat.element_size();
  const auto ranks = static_cast<size_t>(getSize());
  const auto self = static_cast<size_t>(getRank());
  const std::vector<GlooChunk> chunks =
      gloo_chunks(static_cast<size_t>(flat.numel()), element, getSize());
  const size_t part_elements = std::max<size_t>(1, kPartBytes / element);
  size_t parts = 0;
  for (const GlooChunk& chunk : chunks) {
    parts = std::max(parts, (chunk.end - chunk.begin + part_elements - 1) / part_elements);
  }
  // All ranks give and take the parts in this order, so that each finds its own.
  for (size_t part = 0; part < parts; ++part) {
    const auto piece_of = [&](const GlooChunk& chunk) {
      const size_t begin = std::min(chunk.end, chunk.begin + part * part_elements);
      const size_t end = std::min(chunk.end, begin + part_elements);
      return room_in(flat).subspan(begin * element, (end - begin) * element);
    };
    for (int step = 0; step < getSize(); ++step) {
      const size_t owner = (self + static_cast<size_t>(step)) % ranks;
      if (owner >= chunks.size()) continue;
      const MutableByteSpan piece = piece_of(chunks[owner]);
      if (piece.empty()) continue;
      const auto strand = operations_->strand(call.operation);
      if (owner != self) {
        strand->send(static_cast<Rank>(owner), piece);
        strand->receive(static_cast<Rank>(owner), piece, LinkStrand::Leg::kSecond);
        strand->end();
        continue;
      }
      std::vector<const uint8_t*> values(ranks);
      values[self] = piece.data();
      for (size_t rank = 0; rank < ranks; ++rank) {
        if (rank == self) continue;
        const MutableByteSpan room = call.operation->memory(piece.size());
        values[rank] = room.data();
        strand->receive(static_cast<Rank>(rank), room);
      }
      strand->then([strand = strand.get(), values, piece, op, type, self, size = getSize()] {
        const auto owner = static_cast<int>(self);
        reduce_elements(type, op, owner, values, piece);
        for (int next = 1; next < size; ++next) {
          strand->send((owner + next) % size, piece, LinkStrand::Leg::kSecond);
        }
        strand->end();
      });
    }
  }
}

namespace {

// What a rank says of its sparse tensor before it sends it.
constexpr size_t kMostDimensions = 16;
struct SparseShape {
  int64_t sparse_dimensions = 0;
  int64_t dense_dimensions = 0;
  int64_t entries = 0;
  std::array<int64_t, kMostDimensions> sizes{};
};

SparseShape shape_of(const at::Tensor& sparse) {
  SparseShape shape{sparse.sparse_dim(), sparse.dense_dim(), sparse._nnz(), {}};
  std::copy(sparse.sizes().begin(), sparse.sizes().end(), shape.sizes.begin());
  return shape;
}

// A rank's tensor on its way: its shape comes first, then these get their size.
struct SparseOfRank {
  SparseShape shape;
  at::Tensor indices;
  at::Tensor values;
};

MutableByteSpan bytes_in(SparseShape& shape) {
  return {reinterpret_cast<uint8_t*>(&shape), sizeof(shape)};
}

}  // namespace

// Each rank gets the entries of all others and adds them up in the order of the ranks, as Gloo
// does. How many there are is said first.
LinksBackend::WorkPtr LinksBackend::sum_sparse(Tensors& tensors,
                                               const c10d::AllreduceOptions& options) {
  constexpr const char* kName = "all-reduce";
  const at::Tensor tensor = tensors[0];
  TORCH_CHECK(tensor.is_cpu(), kName, ": tensors are on the CPU, not on ", tensor.device());
  TORCH_CHECK(tensor.layout() == c10::kSparse, kName, ": of sparse layouts there is COO only");
  TORCH_CHECK(options.reduceOp == c10d::ReduceOp::SUM, kName, ": sparse tensors are summed only");
  TORCH_CHECK(tensor.dim() <= static_cast<int64_t>(kMostDimensions), kName, ": at most ",
              kMostDimensions, " dimensions");
  check_reduction(kName, tensor.scalar_type(), options.reduceOp);
  const at::Tensor own = tensor.detach().coalesce();
  const auto ranks = static_cast<size_t>(getSize());
  const auto all = std::make_shared<std::vector<SparseOfRank>>(ranks);
  SparseOfRank& mine = all->at(static_cast<size_t>(getRank()));
  mine = {shape_of(own), own._indices().contiguous(), own._values().contiguous()};
  Call call = begin(c10d::OpType::_ALLREDUCE_SPARSE, {tensors}, options.timeout, {}, [all, tensor] {
    at::Tensor sum;
    for (const SparseOfRank& one : *all) {
      const at::Tensor of_rank =
          at::_sparse_coo_tensor_unsafe(one.indices, one.values, tensor.sizes(), tensor.options());
      sum = sum.defined() ? sum + of_rank : of_rank;
    }
    tensor.copy_(sum.coalesce());
  });
  const auto strand = operations_->strand(call.operation);
  for (int step = 1; step < getSize(); ++step) {
    const Rank rank = (getRank() + step) % getSize();
    strand->receive(rank, bytes_in(all->at(static_cast<size_t>(rank)).shape));
    strand->send(rank, bytes_in(mine.shape));
  }
  strand->then([strand = strand.get(), all, self = getRank(), size = getSize()] {
    const SparseOfRank& mine = all->at(static_cast<size_t>(self));
    for (int step = 1; step < size; ++step) {
      const Rank rank = (self + step) % size;
      SparseOfRank& one = all->at(static_cast<size_t>(rank));
      SparseShape expected = mine.shape;
      expected.entries = one.shape.entries;
      const bool fits =
          std::memcmp(&expected, &one.shape, sizeof(expected)) == 0 && one.shape.entries >= 0;
      if (!fits) {
        throw LinkError({ErrorKind::kCorrupt, rank,
                         str_cat("rank ", rank, " has a sparse tensor of another shape")});
      }
      std::vector<int64_t> of_values = mine.values.sizes().vec();
      of_values[0] = one.shape.entries;
      one.indices =
          at::empty({one.shape.sparse_dimensions, one.shape.entries}, mine.indices.options());
      one.values = at::empty(of_values, mine.values.options());
      for (const at::Tensor& part : {one.indices, one.values}) {
        strand->receive(rank, room_in(part), LinkStrand::Leg::kSecond);
      }
      for (const at::Tensor& part : {mine.indices, mine.values}) {
        strand->send(rank, span_of(part), LinkStrand::Leg::kSecond);
      }
    }
    strand->end();
  });
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::allreduce(Tensors& tensors,
                                              const c10d::AllreduceOptions& options) {
  constexpr const char* kName = "all-reduce";
  TORCH_CHECK(tensors.size() == 1, kName, ": one tensor a rank, not ", tensors.size());
  if (tensors[0].layout() != c10::kStrided) return sum_sparse(tensors, options);
  check_tensor(kName, tensors[0]);
  const at::Tensor tensor = tensors[0];
  const at::Tensor real = real_of(kName, tensor.detach(), options.reduceOp);
  check_reduction(kName, real.scalar_type(), options.reduceOp);
  const bool average = options.reduceOp == c10d::ReduceOp::AVG;
  // In place, where the elements lie one behind the other.
  const at::Tensor flat = real.is_contiguous() ? real.view(-1) : flat_of(real);
  Call call = begin(c10d::OpType::ALLREDUCE, {tensors}, options.timeout, {flat},
                    [flat, real, tensor, average, size = getSize()] {
                      copy_back(flat, real);
                      if (average) tensor.detach().div_(size);
                    });
  reduce_all(call, flat, options.reduceOp);
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::allreduce_coalesced(
    Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) {
  constexpr const char* kName = "coalesced all-reduce";
  TORCH_CHECK(!tensors.empty(), kName, ": there is no tensor");
  Tensors flats;
  for (const at::Tensor& tensor : tensors) {
    check_tensor(kName, tensor);
    TORCH_CHECK(tensor.scalar_type() == tensors[0].scalar_type(), kName, ": tensors of one type");
    flats.push_back(flat_of(tensor));
  }
  // As one, so that Gloo's chunks go across the tensors, too.
  const at::Tensor joined = at::cat(flats);
  const at::Tensor real = real_of(kName, joined, options.reduceOp);
  check_reduction(kName, real.scalar_type(), options.reduceOp);
  const bool average = options.reduceOp == c10d::ReduceOp::AVG;
  const at::Tensor flat = real.view(-1);
  Call call =
      begin(c10d::OpType::ALLREDUCE_COALESCED, {tensors}, options.timeout, {joined},
            [joined, tensors, average, size = getSize()] {
              if (average) joined.div_(size);
              int64_t at = 0;
              for (const at::Tensor& tensor : tensors) {
                tensor.detach().copy_(joined.narrow(0, at, tensor.numel()).view(tensor.sizes()));
                at += tensor.numel();
              }
            });
  reduce_all(call, flat, options.reduceOp);
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::reduce(Tensors& tensors, const c10d::ReduceOptions& options) {
  constexpr const char* kName = "reduce";
  check_root(kName, options.rootRank);
  TORCH_CHECK(tensors.size() == 1 && options.rootTensor == 0, kName, ": one tensor a rank");
  check_tensor(kName, tensors[0]);
  const at::Tensor tensor = tensors[0];
  const at::Tensor real = real_of(kName, tensor.detach(), options.reduceOp);
  check_reduction(kName, real.scalar_type(), options.reduceOp);
  const auto root = static_cast<Rank>(options.rootRank);
  const bool is_root = root == getRank();
  const bool average = options.reduceOp == c10d::ReduceOp::AVG;
  const at::Tensor flat = real.is_contiguous() ? real.view(-1) : flat_of(real);
  Call call = begin(c10d::OpType::REDUCE, {tensors}, options.timeout, {flat},
                    [flat, real, tensor, average, is_root, size = getSize()] {
                      if (!is_root) return;
                      copy_back(flat, real);
                      if (average) tensor.detach().div_(size);
                    });
  const auto strand = operations_->strand(call.operation);
  if (!is_root) {
    strand->send(root, span_of(flat));
    strand->end();
    return made(call);
  }
  std::vector<const uint8_t*> values(static_cast<size_t>(getSize()), span_of(flat).data());
  for (Rank rank = 0; rank < getSize(); ++rank) {
    if (rank == root) continue;
    const MutableByteSpan room = call.operation->memory(flat.nbytes());
    values[static_cast<size_t>(rank)] = room.data();
    strand->receive(rank, room);
  }
  strand->then([strand = strand.get(), flat, values, root, op = options.reduceOp] {
    reduce_elements(flat.scalar_type(), op, root, values, room_in(flat));
    strand->end();
  });
  return made(call);
}

// Every rank gets the parts that are its own from all others and adds them up.
LinksBackend::WorkPtr LinksBackend::scatter_sums(c10d::OpType type, const Tensors& outputs,
                                                 const TensorLists& by_rank,
                                                 const c10d::ReduceOp& op,
                                                 std::chrono::milliseconds timeout) {
  constexpr const char* kName = "reduce-scatter";
  const auto self = static_cast<size_t>(getRank());
  const bool average = op == c10d::ReduceOp::AVG;
  TensorLists flats(by_rank.size());
  Tensors keep;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    for (size_t i = 0; i < outputs.size(); ++i) {
      check_tensor(kName, by_rank[rank][i]);
      TORCH_CHECK(!by_rank[rank][i].is_complex(), kName, ": of complex numbers it is not there");
      check_reduction(kName, by_rank[rank][i].scalar_type(), op);
      TORCH_CHECK(by_rank[rank][i].scalar_type() == outputs[i].scalar_type(), kName,
                  ": tensors of one type");
      flats[rank].push_back(flat_of(by_rank[rank][i]));
      keep.push_back(flats[rank].back());
    }
  }
  Tensors rooms;
  for (size_t i = 0; i < outputs.size(); ++i) {
    check_tensor(kName, outputs[i]);
    TORCH_CHECK(outputs[i].numel() == flats[self][i].numel(), kName,
                ": the output has the size of this rank's part");
    rooms.push_back(room_of(outputs[i]));
  }
  Call call = begin(type, {outputs}, timeout, keep, [rooms, outputs, average, size = getSize()] {
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (average) rooms[i].div_(size);
      copy_back(rooms[i], outputs[i].detach());
    }
  });
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto strand = operations_->strand(call.operation);
    std::vector<const uint8_t*> values(by_rank.size());
    values[self] = span_of(flats[self][i]).data();
    for (size_t rank = 0; rank < by_rank.size(); ++rank) {
      if (rank == self) continue;
      const MutableByteSpan room = call.operation->memory(flats[self][i].nbytes());
      values[rank] = room.data();
      strand->receive(static_cast<Rank>(rank), room);
    }
    for (size_t step = 1; step < by_rank.size(); ++step) {
      const size_t rank = (self + step) % by_rank.size();
      strand->send(static_cast<Rank>(rank), span_of(flats[rank][i]));
    }
    strand->then([strand = strand.get(), values, room = rooms[i], op, owner = getRank()] {
      reduce_elements(room.scalar_type(), op, owner, values, room_in(room));
      strand->end();
    });
  }
  return made(call);
}

LinksBackend::WorkPtr LinksBackend::reduce_scatter(Tensors& outputs, TensorLists& inputs,
                                                   const c10d::ReduceScatterOptions& options) {
  constexpr const char* kName = "reduce-scatter";
  TORCH_CHECK(outputs.size() == 1 && inputs.size() == 1, kName, ": one output and one list");
  TORCH_CHECK(inputs[0].size() == static_cast<size_t>(getSize()), kName,
              ": a list of an input for each rank");
  TensorLists by_rank;
  for (const at::Tensor& input : inputs[0]) by_rank.push_back({input});
  return scatter_sums(c10d::OpType::REDUCE_SCATTER, outputs, by_rank, options.reduceOp,
                      options.timeout);
}

LinksBackend::WorkPtr LinksBackend::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& options) {
  Tensors outputs{output};
  Tensors inputs{input};
  return reduce_scatter_tensor_coalesced(outputs, inputs, options);
}

LinksBackend::WorkPtr LinksBackend::reduce_scatter_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::ReduceScatterOptions& options) {
  constexpr const char* kName = "reduce-scatter";
  TORCH_CHECK(outputs.size() == inputs.size() && !inputs.empty(), kName,
              ": an output for each input");
  TensorLists by_rank(static_cast<size_t>(getSize()));
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_tensor(kName, inputs[i]);
    check_tensor(kName, outputs[i]);
    TORCH_CHECK(inputs[i].numel() == outputs[i].numel() * getSize(), kName, ": an input has ",
                getSize(), " times the size of its output");
    const Tensors parts = flat_of(inputs[i]).view({getSize(), -1}).unbind(0);
    for (size_t rank = 0; rank < parts.size(); ++rank) by_rank[rank].push_back(parts[rank]);
  }
  const auto type =
      inputs.size() == 1 ? c10d::OpType::_REDUCE_SCATTER_BASE : c10d::OpType::COALESCED;
  return scatter_sums(type, outputs, by_rank, options.reduceOp, options.timeout);
}

// --- Transfers ---------------------------------------------------------------------------------

LinksBackend::WorkPtr LinksBackend::transfer(c10d::OpType type, Tensors& tensors, int peer,
                                             int tag) {
  const bool sends = type == c10d::OpType::SEND;
  const char* const name = sends ? "send" : "receive";
  TORCH_CHECK(tensors.size() == 1, name, ": one tensor");
  check_tensor(name, tensors[0]);
  TORCH_CHECK(tensors[0].is_contiguous(), name, ": the tensor is contiguous");
  TORCH_CHECK(tag >= 0, name, ": a tag is 0 or more");
  TORCH_CHECK(peer >= 0 && peer < getSize() && peer != getRank(), name,
              ": the other side is another rank of this world of ", getSize(), ", not ", peer);
  auto work = c10::make_intrusive<LinksWork>(type, TensorLists{tensors}, 0, timeout_.load(),
                                             sends ? -1 : peer);
  // No limit of its own: that begins when somebody waits.
  const auto operation = operations_->begin(
      kTransfer | static_cast<uint64_t>(tag), milliseconds(0),
      [work, keep = tensors](const std::exception_ptr& error) { work->end(error); });
  const auto strand = operations_->strand(operation);
  if (sends) {
    strand->send(peer, span_of(tensors[0]));
  } else {
    strand->receive_up_to(peer, room_in(tensors[0]));
  }
  strand->end();
  operations_->made(operation);
  return work;
}

LinksBackend::WorkPtr LinksBackend::send(Tensors& tensors, int destination, int tag) {
  return transfer(c10d::OpType::SEND, tensors, destination, tag);
}

LinksBackend::WorkPtr LinksBackend::recv(Tensors& tensors, int source, int tag) {
  return transfer(c10d::OpType::RECV, tensors, source, tag);
}

}  // namespace longhaul
