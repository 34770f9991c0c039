#include "longhaul/collectives/compressed_allreduce.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "collectives/frame_exchange.h"
#include "collectives/rank_sum.h"
#include "collectives/watched_communicator.h"
#include "longhaul/base/queue.h"
#include "longhaul/base/strings.h"
#include "longhaul/base/thread.h"
#include "longhaul/codec/codec.h"

namespace longhaul {
namespace {

using FuturePtr = c10::intrusive_ptr<c10::ivalue::Future>;

constexpr int kToOwner = 0;
constexpr int kFromOwner = 1;

ElementType element_type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return ElementType::kFloat32;
    case at::kBFloat16:
      return ElementType::kBFloat16;
    case at::kHalf:
      return ElementType::kFloat16;
    case at::kDouble:
      return ElementType::kFloat64;
    default:
      throw Error(ErrorKind::kInvalid,
                  str_cat("a compressed all-reduce takes float, bfloat16, half or double, not ",
                          c10::toString(tensor.scalar_type())));
  }
}

MutableByteSpan memory_of(const at::Tensor& tensor) {
  return {static_cast<uint8_t*>(tensor.data_ptr()),
          static_cast<size_t>(tensor.numel() * tensor.element_size())};
}

// One reduction, as start() was asked for it.
struct Job {
  at::Tensor tensor;
  double scale = 1;
  uint64_t step = 0;
  uint32_t bucket = 0;
  std::unique_ptr<c10::Event> ready;  // when a device has written the tensor; null for CPU tensors
  FuturePtr future;

  std::string describe() const {
    return str_cat("compressed all-reduce of ",
                   format_bytes(static_cast<uint64_t>(tensor.numel() * tensor.element_size())),
                   " (bucket ", bucket, " of step ", step, ")");
  }
};

// Which elements of a bucket each rank owns: as even as can be, the same on all ranks.
class Chunks {
 public:
  Chunks(size_t element_count, int ranks, ElementType type)
      : element_count_(element_count), ranks_(static_cast<size_t>(ranks)), type_(type) {}
  size_t count(Rank rank) const { return first(rank + 1) - first(rank); }
  size_t first(Rank rank) const {
    const auto r = static_cast<size_t>(rank);
    // Whole share and remainder apart, so that nothing overflows.
    return element_count_ / ranks_ * r + element_count_ % ranks_ * r / ranks_;
  }
  template <typename Bytes>
  Bytes of(Rank rank, Bytes bytes) const {
    const size_t width = element_bytes(type_);
    return bytes.subspan(first(rank) * width, count(rank) * width);
  }

 private:
  const size_t element_count_;
  const size_t ranks_;
  const ElementType type_;
};

}  // namespace

struct CompressedAllreduce::State {
  State(std::shared_ptr<Communicator> made_for, const CodecSpec& spec)
      : communicator(std::move(made_for)),
        watch(watch_of(*communicator)),
        group(communicator->new_process_group("compressed-all-reduce")),
        codec(make_codec(spec)),
        exchange(group, watch) {}

  void check_codecs();
  void run();
  void finish(const Job& job);
  void reduce_on_host(const Job& job, const at::Tensor& tensor);
  void reduce_two_shot(const Job& job, ElementType type, MutableByteSpan bytes);
  void reduce_pair(const Job& job, ElementType type, MutableByteSpan bytes);
  FrameLabel label(const Job& job, ElementType type, Rank sender, Rank owner, int leg,
                   size_t count) const;
  void decode(ElementType type, ByteSpan payload, MutableByteSpan elements, Rank sender);
  MutableByteSpan scratch(size_t bytes);
  size_t encode_frame(const FrameLabel& frame_label, int leg, Rank buffer_rank, ElementType type,
                      ByteSpan elements, size_t first_element);

  void decode_own_frame(int leg, Rank buffer_rank, size_t frame_bytes, ElementType type,
                        MutableByteSpan elements);

  Rank self() const { return communicator->rank(); }
  int size() const { return communicator->size(); }

  const std::shared_ptr<Communicator> communicator;
  const std::shared_ptr<OperationWatch> watch;
  const c10::intrusive_ptr<c10d::ProcessGroup> group;
  const std::unique_ptr<Codec> codec;
  FrameExchange exchange;
  RankSum sum;
  FrameBuffer decoded;
  Queue<Job> queue;
  std::exception_ptr failure;  // of the thread
  Thread thread;               // last: it uses all of the above
};

// Every rank says its codec; all of them see the same answers and fail with the same words.
void CompressedAllreduce::State::check_codecs() {
  constexpr int64_t kMaxSpecBytes = 256;
  const std::string own = codec->spec().str();
  LONGHAUL_CHECK(own.size() < static_cast<size_t>(kMaxSpecBytes));
  at::Tensor mine = at::zeros({kMaxSpecBytes}, at::kByte);
  std::memcpy(mine.data_ptr(), own.data(), own.size());
  std::vector<std::vector<at::Tensor>> all(1);
  for (Rank rank = 0; rank < size(); ++rank) all[0].push_back(at::zeros_like(mine));
  std::vector<at::Tensor> input{mine};
  group->allgather(all, input)->wait();
  const auto name = [&](Rank rank) {
    const auto* text = static_cast<const char*>(all[0][static_cast<size_t>(rank)].data_ptr());
    return std::string(text, strnlen(text, kMaxSpecBytes));
  };
  for (Rank rank = 1; rank < size(); ++rank) {
    if (name(rank) == name(0)) continue;
    throw CollectiveError(ErrorKind::kInvalid,
                          str_cat("ranks disagree on the codec: rank 0 has '", name(0), "', rank ",
                                  rank, " has '", name(rank), "'"),
                          rank);
  }
}

void CompressedAllreduce::State::run() {
  while (std::optional<Job> job = queue.pop()) finish(*job);
}

void CompressedAllreduce::State::finish(const Job& job) {
  if (failure) {
    job.future->setError(failure);
    return;
  }
  const std::string what = job.describe();
  try {
    watch->traffic().begin_operation(what);
    if (job.tensor.is_cpu()) {
      reduce_on_host(job, job.tensor);
    } else {
      job.ready->synchronize();
      at::Tensor host =
          at::empty(job.tensor.sizes(), job.tensor.options().device(at::kCPU).pinned_memory(true));
      host.copy_(job.tensor);
      reduce_on_host(job, host);
      job.tensor.copy_(host);
    }
    watch->traffic().end_operation();
    job.future->markCompleted(std::vector<at::Tensor>{job.tensor});
  } catch (const CollectiveError& error) {
    const CollectiveError named(error.kind(), str_cat(what, ": ", error.what()), error.peer());
    watch->fail(named);
    failure = std::make_exception_ptr(named);
  } catch (...) {
    failure = watch->translate(std::current_exception(), what);
  }
  if (!failure) return;
  watch->traffic().end_operation();
  job.future->setError(failure);
}

void CompressedAllreduce::State::reduce_on_host(const Job& job, const at::Tensor& tensor) {
  const ElementType type = element_type_of(tensor);
  const MutableByteSpan bytes = memory_of(tensor);
  if (size() == 1) {
    sum.reset(type, bytes.size() / element_bytes(type));
    sum.add(bytes);
    sum.finish(job.scale, bytes);
  } else if (size() == 2) {
    reduce_pair(job, type, bytes);
  } else {
    reduce_two_shot(job, type, bytes);
  }
}

FrameLabel CompressedAllreduce::State::label(const Job& job, ElementType type, Rank sender,
                                             Rank owner, int leg, size_t count) const {
  FrameLabel made;
  made.sender = sender;
  made.generation = communicator->options().generation;
  made.step = job.step;
  made.bucket = job.bucket;
  made.chunk = static_cast<uint32_t>(owner);
  made.leg = static_cast<uint8_t>(leg);
  made.codec = static_cast<uint8_t>(codec->spec().kind);
  made.element_type = static_cast<uint8_t>(type);
  made.element_count = count;
  return made;
}

void CompressedAllreduce::State::decode(ElementType type, ByteSpan payload,
                                        MutableByteSpan elements, Rank sender) {
  const Result<void> done = codec->decode(type, payload, elements);
  if (done) return;
  throw CollectiveError(done.failure().kind,
                        str_cat("payload of rank ", sender, ": ", done.failure().message), sender);
}

MutableByteSpan CompressedAllreduce::State::scratch(size_t bytes) {
  return decoded.room(bytes).first(bytes);
}

size_t CompressedAllreduce::State::encode_frame(const FrameLabel& frame_label, int leg,
                                                Rank buffer_rank, ElementType type,
                                                ByteSpan elements, size_t first_element) {
  const EncodeContext context{.step = frame_label.step,
                              .bucket = frame_label.bucket,
                              .rank = static_cast<uint32_t>(frame_label.sender),
                              .first_element = first_element};
  const size_t capacity = codec->max_payload_bytes(type, frame_label.element_count);
  const MutableByteSpan frame = exchange.outgoing(leg, buffer_rank, capacity);
  const size_t body = codec->encode(type, elements, frame.subspan(kFrameHeaderBytes), context);
  return exchange.seal(frame_label, leg, buffer_rank, body);
}

// What the others will make of `elements`, which went into this frame.
void CompressedAllreduce::State::decode_own_frame(int leg, Rank buffer_rank, size_t frame_bytes,
                                                  ElementType type, MutableByteSpan elements) {
  if (codec->spec().lossless()) return;
  const ByteSpan sealed = exchange.outgoing(leg, buffer_rank, 0).first(frame_bytes);
  decode(type, sealed.subspan(kFrameHeaderBytes), elements, self());
}

// Two ranks: all of it to the other, one round; both add in rank order.
void CompressedAllreduce::State::reduce_pair(const Job& job, ElementType type,
                                             MutableByteSpan bytes) {
  const Rank peer = 1 - self();
  const size_t count = bytes.size() / element_bytes(type);
  const auto of = [&](Rank sender) { return label(job, type, sender, sender, kToOwner, count); };
  exchange.post_receive(kToOwner, peer, codec->max_payload_bytes(type, count));
  const size_t frame_bytes = encode_frame(of(self()), kToOwner, peer, type, bytes, 0);
  exchange.send(kToOwner, peer, peer, frame_bytes);
  decode_own_frame(kToOwner, peer, frame_bytes, type, bytes);

  const ByteSpan payload = exchange.receive(kToOwner, peer, of(peer));
  const MutableByteSpan theirs = scratch(bytes.size());
  decode(type, payload, theirs, peer);
  sum.reset(type, count);
  sum.add(self() == 0 ? ByteSpan(bytes) : ByteSpan(theirs));
  sum.add(self() == 0 ? ByteSpan(theirs) : ByteSpan(bytes));
  sum.finish(job.scale, bytes);
  watch->traffic().add_bytes(bytes.size(), exchange.bytes_sent());
  exchange.finish();
}

void CompressedAllreduce::State::reduce_two_shot(const Job& job, ElementType type,
                                                 MutableByteSpan bytes) {
  const Chunks chunks(bytes.size() / element_bytes(type), size(), type);
  const auto room = [&](Rank owner) { return codec->max_payload_bytes(type, chunks.count(owner)); };
  const size_t own_count = chunks.count(self());
  for (Rank rank = 0; rank < size(); ++rank) {
    if (rank == self()) continue;
    exchange.post_receive(kToOwner, rank, room(self()));
    exchange.post_receive(kFromOwner, rank, room(rank));
  }

  // To the owners, the next rank first, so that not all of them send to the same one.
  uint64_t raw = 0;
  for (int hop = 1; hop < size(); ++hop) {
    const Rank owner = (self() + hop) % size();
    const FrameLabel to = label(job, type, self(), owner, kToOwner, chunks.count(owner));
    const size_t frame_bytes = encode_frame(to, kToOwner, owner, type,
                                            chunks.of(owner, ByteSpan(bytes)), chunks.first(owner));
    exchange.send(kToOwner, owner, owner, frame_bytes);
    raw += chunks.of(owner, bytes).size();
  }

  // The owner adds in rank order, each contribution as soon as it is its turn.
  const MutableByteSpan own = chunks.of(self(), bytes);
  sum.reset(type, own_count);
  for (Rank rank = 0; rank < size(); ++rank) {
    if (rank == self()) {
      sum.add(own);
      continue;
    }
    const FrameLabel from = label(job, type, rank, self(), kToOwner, own_count);
    const MutableByteSpan elements = scratch(own.size());
    decode(type, exchange.receive(kToOwner, rank, from), elements, rank);
    sum.add(elements);
  }
  sum.finish(job.scale, own);

  // The same bytes to everybody, and everybody applies what they decode to, the owner too.
  const FrameLabel result = label(job, type, self(), self(), kFromOwner, own_count);
  const size_t frame_bytes =
      encode_frame(result, kFromOwner, self(), type, own, chunks.first(self()));
  for (int hop = 1; hop < size(); ++hop) {
    exchange.send(kFromOwner, self(), (self() + hop) % size(), frame_bytes);
    raw += own.size();
  }
  decode_own_frame(kFromOwner, self(), frame_bytes, type, own);
  for (int hop = 1; hop < size(); ++hop) {
    const Rank owner = (self() + hop) % size();
    const FrameLabel from = label(job, type, owner, owner, kFromOwner, chunks.count(owner));
    decode(type, exchange.receive(kFromOwner, owner, from), chunks.of(owner, bytes), owner);
  }
  watch->traffic().add_bytes(raw, exchange.bytes_sent());
  exchange.finish();
}

CompressedAllreduce::CompressedAllreduce(std::shared_ptr<Communicator> communicator,
                                         const CodecSpec& spec)
    : state_(std::make_unique<State>(std::move(communicator), spec)) {
  if (state_->size() > 1) state_->check_codecs();
  state_->thread = Thread("lh-allreduce", [state = state_.get()] { state->run(); });
}

CompressedAllreduce::~CompressedAllreduce() {
  state_->queue.close();
}

c10::intrusive_ptr<c10::ivalue::Future> CompressedAllreduce::start(at::Tensor tensor, double scale,
                                                                   uint64_t step, uint32_t bucket) {
  element_type_of(tensor);
  if (!tensor.is_contiguous()) {
    throw Error(ErrorKind::kInvalid, "a compressed all-reduce takes a contiguous tensor");
  }
  Job job;
  std::vector<c10::Device> devices;
  if (!tensor.is_cpu()) {
    devices.push_back(tensor.device());
    const c10::impl::VirtualGuardImpl guard(tensor.device().type());
    job.ready = std::make_unique<c10::Event>(tensor.device().type());
    job.ready->record(guard.getStream(tensor.device()));
  }
  job.future = c10::make_intrusive<c10::ivalue::Future>(
      c10::ListType::create(c10::TensorType::get()), std::move(devices));
  job.tensor = std::move(tensor);
  job.scale = scale;
  job.step = step;
  job.bucket = bucket;
  FuturePtr future = job.future;
  LONGHAUL_CHECK(state_->queue.push(std::move(job)));
  return future;
}

}  // namespace longhaul
