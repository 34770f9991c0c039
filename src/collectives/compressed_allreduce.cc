#include "longhaul/collectives/compressed_allreduce.h"

#include <time.h>

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "base/queue.h"
#include "base/thread.h"
#include "collectives/bucket_layout.h"
#include "collectives/frame_exchange.h"
#include "collectives/rank_sum.h"
#include "collectives/watched_communicator.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"

namespace longhaul {
namespace {

using FuturePtr = c10::intrusive_ptr<c10::ivalue::Future>;

// The legs, as in a frame's label.
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

// The stream on which a device tensor is copied from and to the host. The stages' threads start
// with the default stream as their current one; a copy there would wait for all work that backward
// has queued on it by now. Copies are synchronous, and a Bucket keeps its tensor until they are
// done, so the caching allocator need not be told of the stream.
c10::Stream copy_stream(const at::Tensor& tensor) {
  return c10::impl::VirtualGuardImpl(tensor.device().type())
      .getStreamFromGlobalPool(tensor.device());
}

// Adds the processor time that this thread uses while the object lives. Wall time would also count
// what other threads and processes take from the same core.
class CodecClock {
 public:
  explicit CodecClock(Traffic& traffic) : traffic_(traffic), start_(now()) {}
  ~CodecClock() { traffic_.add_codec(now() - start_); }
  CodecClock(const CodecClock&) = delete;
  CodecClock& operator=(const CodecClock&) = delete;

 private:
  static double now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
  }

  Traffic& traffic_;
  const double start_;
};

// One reduction, as start() was asked for it. Its pieces share it.
struct Bucket {
  at::Tensor tensor;
  at::Tensor host;  // what is exchanged: the tensor itself, or a device tensor's copy
  double scale = 1;
  uint64_t step = 0;
  uint32_t number = 0;
  size_t codec = 0;                   // which of the codecs
  at::Tensor residual;                // error feedback; undefined: none
  std::unique_ptr<c10::Event> ready;  // when a device has written the tensor; null for CPU tensors
  FuturePtr future;

  std::string describe() const {
    return str_cat("compressed all-reduce of ",
                   format_bytes(static_cast<uint64_t>(tensor.numel() * tensor.element_size())),
                   " (bucket ", number, " of step ", step, ")");
  }
};

// A piece of a bucket on its way. It is moved from stage to stage through queues, so only one
// thread has it at a time and its fields need no lock. Pieces of one bucket touch different
// elements of the shared tensors.
struct Flight {
  std::shared_ptr<Bucket> bucket;  // its pieces share it; the last one's end completes the future
  ElementRange piece;
  uint32_t piece_index = 0;
  bool last = false;
  bool one_round = false;
  ElementType type = ElementType::kFloat32;
  size_t own_frame_bytes = 0;  // one round: of the frame that everybody gets
  uint64_t raw_bytes = 0;      // what would have been sent without a codec
  std::unique_ptr<FrameExchange> exchange;

  MutableByteSpan elements(const ElementRange& range) const {
    const size_t width = element_bytes(type);
    return bytes_of_host().subspan(range.first * width, range.count * width);
  }
  // With error feedback, whose tensors are fp32: both as floats. Else empty.
  std::span<float> floats(const ElementRange& range) const { return part(bucket->host, range); }
  std::span<float> residual(const ElementRange& range) const {
    return part(bucket->residual, range);
  }

 private:
  std::span<float> part(const at::Tensor& tensor, const ElementRange& range) const {
    if (!bucket->residual.defined()) return {};
    return {tensor.data_ptr<float>() + range.first, range.count};
  }
  MutableByteSpan bytes_of_host() const { return memory_of(bucket->host); }
};

// A payload that passed the frame's checksum and still does not decode was made wrong: its sender
// is named.
void check_decoded(const Result<void>& decoded, Rank sender_rank) {
  if (decoded) return;
  throw CollectiveError(decoded.failure().kind,
                        str_cat("payload of rank ", sender_rank, ": ", decoded.failure().message),
                        sender_rank);
}

MutableByteSpan bytes_of(std::span<float> floats) {
  return {reinterpret_cast<uint8_t*>(floats.data()), floats.size_bytes()};
}

// What encoding dropped of `meant` when the payload decodes to `said`, times the factor. It is 0
// where it is NaN or Inf, which would otherwise stay in the residual for good. The spans may be the
// same memory, because each element is read before it is written.
void write_residual(std::span<const float> meant, std::span<const float> said, float factor,
                    std::span<float> residual) {
  for (size_t i = 0; i < residual.size(); ++i) {
    const float dropped = (meant[i] - said[i]) * factor;
    residual[i] = std::isfinite(dropped) ? dropped : 0.0F;
  }
}

}  // namespace

// Three stages, a thread each; flights pass through them in the order of start(), on every rank:
//   send      encodes the contributions and sends them to their owners
//   reduce    the owner adds what it decodes, in rank order, and sends the result to everybody
//   apply     decodes the results into the tensor and completes the future
// So one flight's latency and arithmetic hide behind those of others.
//
// Why this cannot deadlock: all ranks take flights in the same order, and a flight's receives are
// posted before its first send. So the oldest flight that is not complete on every rank can always
// go on: each rank has an exchange for it, each reduce stage comes to it next and waits for its
// first leg only, and each apply stage for its second.
//
// A failure of any stage is kept in `failure`. From then on the stages pass flights on without
// touching the network, so that every future is completed, with that failure.
struct CompressedAllreduce::State {
  // Flights under way at most. With pieces of 2 MiB that is 64 MiB of elements, which bounds memory
  // and still fills a link whose bandwidth times latency is large.
  static constexpr size_t kFlights = 32;

  // A codec object may be used by one thread at a time, so each stage has its own. `reduce` encodes
  // the second leg and may have another step for that; a step does not matter to a decoder, so all
  // three decode what any of them encodes.
  struct Codecs {
    std::unique_ptr<Codec> send, reduce, apply;
  };

  State(std::shared_ptr<Communicator> made_for, const std::vector<CodecSpec>& specs)
      : communicator(std::move(made_for)),
        watch(watch_of(*communicator)),
        group(communicator->new_process_group("compressed-all-reduce")) {
    LONGHAUL_CHECK(!specs.empty());
    codecs.reserve(specs.size());
    for (const CodecSpec& spec : specs) {
      codecs.push_back({make_codec(spec), make_codec(spec.second_leg()), make_codec(spec)});
    }
    for (size_t i = 0; i < kFlights; ++i) {
      idle_exchanges.push(std::make_unique<FrameExchange>(group, watch));
    }
  }

  void check_codecs();
  void start_threads();

  // The stages' threads.
  void send_all();
  void reduce_all();
  void apply_all();

  void take_off(const std::shared_ptr<Bucket>& bucket);
  void send(Flight& flight);
  void reduce(Flight& flight);
  void apply(Flight& flight);
  void land(Flight& flight);
  // Runs a stage of a flight, unless this world has failed; what it throws fails the world.
  void attempt(Flight& flight, void (State::*stage)(Flight&));

  void add_residual(Flight& flight);
  void keep_residual(Flight& flight, Codec& codec, const ElementRange& range, ByteSpan payload);

  void send_to_owners(Flight& flight);
  void send_to_everybody(Flight& flight);
  void reduce_one_round(Flight& flight);
  void reduce_own_chunk(Flight& flight);

  BucketLayout layout(const Bucket& bucket) const {
    return {static_cast<size_t>(bucket.tensor.numel()),
            static_cast<size_t>(bucket.tensor.element_size()), size()};
  }
  ElementRange chunk(const Flight& flight, Rank owner) const {
    return layout(*flight.bucket).chunk(flight.piece, owner);
  }
  FrameLabel label(const Flight& flight, Rank sender, Rank owner, int leg, size_t count) const;
  size_t room(const Flight& flight, size_t element_count) const {
    return codecs_of(flight).send->max_payload_bytes(flight.type, element_count);
  }
  const Codecs& codecs_of(const Flight& flight) const { return codecs[flight.bucket->codec]; }
  size_t encode_frame(Flight& flight, Codec& codec, const FrameLabel& frame_label, Rank buffer_rank,
                      const ElementRange& range);
  // The body of a frame of our own, as it was sent.
  ByteSpan own_payload(Flight& flight, int leg, Rank buffer_rank, size_t frame_bytes) const;
  void add(Flight& flight, ByteSpan payload, Rank sender_rank);

  std::exception_ptr failed() const {
    MutexLock lock(mutex);
    return failure;
  }
  Rank self() const { return communicator->rank(); }
  int size() const { return communicator->size(); }

  const std::shared_ptr<Communicator> communicator;
  const std::shared_ptr<OperationWatch> watch;
  const c10::intrusive_ptr<c10d::ProcessGroup> group;
  std::vector<Codecs> codecs;

  // Used by the send stage alone. Every rank counts alike, so a number means the same flight
  // everywhere; Gloo's tags are made of it.
  uint64_t operations = 0;
  // Used by the reduce stage alone.
  RankSum sum;

  // Exchanges without a flight. Waiting for one is what keeps the send stage from running ahead.
  Queue<std::unique_ptr<FrameExchange>> idle_exchanges;
  Queue<std::shared_ptr<Bucket>> asked;  // from start() to the send stage
  Queue<Flight> sent;                    // from the send stage to the reduce stage
  Queue<Flight> reduced;                 // from the reduce stage to the apply stage

  mutable Mutex mutex;
  std::exception_ptr failure LONGHAUL_GUARDED_BY(mutex);  // the first one

  // Last, because they use all of the above: they are joined before anything else is destroyed.
  Thread sender;
  Thread reducer;
  Thread applier;
};

// Every rank says its codec; all of them see the same answers and fail with the same words. Without
// this check frames of another codec would be refused as corrupt, which hides the cause. An
// all-gather needs tensors of one size, so names travel in a fixed one, with zeros behind them.
void CompressedAllreduce::State::check_codecs() {
  constexpr int64_t kMaxSpecBytes = 1024;
  std::vector<std::string> names;
  names.reserve(codecs.size());
  for (const Codecs& kind : codecs) names.push_back(kind.send->spec().str());
  const std::string own = join(names, " or ");
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

void CompressedAllreduce::State::start_threads() {
  sender = Thread("lh-send", [this] { send_all(); });
  reducer = Thread("lh-reduce", [this] { reduce_all(); });
  applier = Thread("lh-apply", [this] { apply_all(); });
}

void CompressedAllreduce::State::send_all() {
  while (const std::optional<std::shared_ptr<Bucket>> bucket = asked.pop()) take_off(*bucket);
  sent.close();
}

void CompressedAllreduce::State::reduce_all() {
  while (std::optional<Flight> flight = sent.pop()) {
    attempt(*flight, &State::reduce);
    reduced.push(std::move(*flight));
  }
  reduced.close();
}

void CompressedAllreduce::State::apply_all() {
  while (std::optional<Flight> flight = reduced.pop()) {
    attempt(*flight, &State::apply);
    land(*flight);
  }
}

void CompressedAllreduce::State::attempt(Flight& flight, void (State::*stage)(Flight&)) {
  if (failed()) return;
  std::exception_ptr caught;
  const std::string what = flight.bucket->describe();
  try {
    return (this->*stage)(flight);
  } catch (const CollectiveError& error) {
    // fail() also ends what the other two stages wait for: it raises a fault at the monitor, and a
    // fault wakes all operations that are pending.
    const CollectiveError named(error.kind(), str_cat(what, ": ", error.what()), error.peer());
    watch->fail(named);
    caught = std::make_exception_ptr(named);
  } catch (...) {
    caught = watch->translate(std::current_exception(), what);
  }
  MutexLock lock(mutex);
  if (!failure) failure = caught;
}

// Cuts a bucket into flights and sends each on its way, as exchanges come free. After a failure
// exchanges still come back, because flights still pass through all stages; so this never waits for
// good.
void CompressedAllreduce::State::take_off(const std::shared_ptr<Bucket>& bucket) {
  const BucketLayout cut = layout(*bucket);
  watch->traffic().begin_operation(bucket->describe());
  for (size_t i = 0; i < cut.piece_count(); ++i) {
    Flight flight;
    flight.bucket = bucket;
    flight.piece = cut.piece(i);
    flight.piece_index = static_cast<uint32_t>(i);
    flight.last = i + 1 == cut.piece_count();
    flight.type = element_type_of(bucket->tensor);
    flight.one_round = takes_one_round(flight.piece.count * element_bytes(flight.type), size());
    flight.exchange = *idle_exchanges.pop();
    attempt(flight, &State::send);
    sent.push(std::move(flight));
  }
}

void CompressedAllreduce::State::send(Flight& flight) {
  Bucket& bucket = *flight.bucket;
  // The first piece's turn copies the whole bucket to the host. Later pieces come to this thread
  // after it, and to the other stages through queues, so all of them see the copy.
  if (flight.piece_index == 0) {
    bucket.host = bucket.tensor;
    if (!bucket.tensor.is_cpu()) {
      bucket.ready->synchronize();
      const at::TensorOptions pinned = bucket.tensor.options().device(at::kCPU).pinned_memory(true);
      bucket.host = at::empty(bucket.tensor.sizes(), pinned);
      const c10::StreamGuard beside_backward(copy_stream(bucket.tensor));
      bucket.host.copy_(bucket.tensor);
    }
  }
  if (size() == 1) return;
  flight.exchange->begin(operations++);
  add_residual(flight);
  if (flight.one_round) {
    send_to_everybody(flight);
  } else {
    send_to_owners(flight);
  }
}

void CompressedAllreduce::State::reduce(Flight& flight) {
  if (flight.one_round || size() == 1) {
    reduce_one_round(flight);
  } else {
    reduce_own_chunk(flight);
  }
}

void CompressedAllreduce::State::apply(Flight& flight) {
  if (size() > 1 && !flight.one_round) {
    for (int hop = 1; hop < size(); ++hop) {
      const Rank owner = (self() + hop) % size();
      const ElementRange theirs = chunk(flight, owner);
      const FrameLabel from = label(flight, owner, owner, kFromOwner, theirs.count);
      const ByteSpan payload = flight.exchange->receive(kFromOwner, owner, from);
      const CodecClock clock(watch->traffic());
      check_decoded(codecs_of(flight).apply->decode(flight.type, payload, flight.elements(theirs)),
                    owner);
    }
  }
  watch->traffic().add_bytes(flight.raw_bytes, flight.exchange->bytes_sent());
  // Waits until the sends are done: their buffers are used again by the next flight of this
  // exchange.
  flight.exchange->finish();
  if (!flight.last) return;
  const at::Tensor& tensor = flight.bucket->tensor;
  if (tensor.is_cpu()) return;
  const c10::StreamGuard beside_backward(copy_stream(tensor));
  // A blocking copy: the data has arrived when this returns, whatever stream the reader of the
  // future is on.
  tensor.copy_(flight.bucket->host);
}

// The end of a flight, good or bad. A bucket fails when any flight has failed by now, be it of
// another bucket: this world is over, and ranks may differ in which flights still got through.
void CompressedAllreduce::State::land(Flight& flight) {
  const std::exception_ptr error = failed();
  // After a failure Gloo may still use the buffers of this exchange. That is harmless, because no
  // later flight touches them: all of them are passed on as they are.
  idle_exchanges.push(std::move(flight.exchange));
  if (!flight.last) return;
  watch->traffic().end_operation();
  if (error) {
    flight.bucket->future->setError(error);
  } else {
    flight.bucket->future->markCompleted(std::vector<at::Tensor>{flight.bucket->tensor});
  }
}

// What frames of a flight are called. Sender and receiver make the label on their own; a receiver
// refuses every frame that has another one. The number of the chunk counts over all pieces of the
// bucket, so that no two frames of a bucket have the same label.
FrameLabel CompressedAllreduce::State::label(const Flight& flight, Rank sender_rank, Rank owner,
                                             int leg, size_t count) const {
  FrameLabel made;
  made.sender = sender_rank;
  made.generation = communicator->options().generation;
  made.step = flight.bucket->step;
  made.bucket = flight.bucket->number;
  made.chunk = flight.piece_index * static_cast<uint32_t>(size()) + static_cast<uint32_t>(owner);
  made.leg = static_cast<uint8_t>(leg);
  made.codec = static_cast<uint8_t>(codecs_of(flight).send->spec().kind);
  made.element_type = static_cast<uint8_t>(flight.type);
  made.element_count = count;
  return made;
}

// Leaves the sealed frame in outgoing(leg, buffer_rank); returns its bytes. No two encodings of a
// bucket share random numbers of stochastic rounding, which are keyed by rank and element: in the
// first leg a rank encodes every chunk but its own, and in the second its own alone.
size_t CompressedAllreduce::State::encode_frame(Flight& flight, Codec& codec,
                                                const FrameLabel& frame_label, Rank buffer_rank,
                                                const ElementRange& range) {
  const EncodeContext context{.step = frame_label.step,
                              .bucket = frame_label.bucket,
                              .rank = static_cast<uint32_t>(frame_label.sender),
                              .first_element = range.first};
  FrameExchange& exchange = *flight.exchange;
  const MutableByteSpan frame =
      exchange.outgoing(frame_label.leg, buffer_rank, room(flight, range.count));
  const CodecClock clock(watch->traffic());
  const size_t body =
      codec.encode(flight.type, flight.elements(range), frame.subspan(kFrameHeaderBytes), context);
  return exchange.seal(frame_label, frame_label.leg, buffer_rank, body);
}

ByteSpan CompressedAllreduce::State::own_payload(Flight& flight, int leg, Rank buffer_rank,
                                                 size_t frame_bytes) const {
  const ByteSpan frame = flight.exchange->outgoing(leg, buffer_rank, 0).first(frame_bytes);
  return frame.subspan(kFrameHeaderBytes);
}

void CompressedAllreduce::State::add(Flight& flight, ByteSpan payload, Rank sender_rank) {
  const CodecClock clock(watch->traffic());
  check_decoded(sum.add_encoded(*codecs_of(flight).reduce, payload), sender_rank);
}

void CompressedAllreduce::State::add_residual(Flight& flight) {
  const std::span<float> residual = flight.residual(flight.piece);
  const std::span<float> elements = flight.floats(flight.piece);
  for (size_t i = 0; i < residual.size(); ++i) elements[i] += residual[i];
  // Zero until something is encoded: a rank's own chunk of a two-shot is added as it is and loses
  // nothing in the first leg.
  std::fill(residual.begin(), residual.end(), 0.0F);
}

// Sets the residual of a range to what its payload, as it was sent, lacks of the elements. A
// payload of our own that does not decode is a bug, or memory that has changed; this rank is named.
void CompressedAllreduce::State::keep_residual(Flight& flight, Codec& codec,
                                               const ElementRange& range, ByteSpan payload) {
  const std::span<float> residual = flight.residual(range);
  if (residual.empty() || codec.spec().lossless()) return;
  const CodecClock clock(watch->traffic());
  check_decoded(codec.decode(flight.type, payload, bytes_of(residual)), self());
  write_residual(flight.floats(range), residual, 1.0F, residual);
}

// One round: the same frame to every rank, and all of theirs back. Receives are posted before the
// first send, as FrameExchange asks.
void CompressedAllreduce::State::send_to_everybody(Flight& flight) {
  FrameExchange& exchange = *flight.exchange;
  for (int hop = 1; hop < size(); ++hop) {
    exchange.post_receive(kToOwner, (self() + hop) % size(), room(flight, flight.piece.count));
  }
  const FrameLabel own = label(flight, self(), self(), kToOwner, flight.piece.count);
  flight.own_frame_bytes = encode_frame(flight, *codecs_of(flight).send, own, self(), flight.piece);
  keep_residual(flight, *codecs_of(flight).send, flight.piece,
                own_payload(flight, kToOwner, self(), flight.own_frame_bytes));
  for (int hop = 1; hop < size(); ++hop) {
    exchange.send(kToOwner, self(), (self() + hop) % size(), flight.own_frame_bytes);
    flight.raw_bytes += flight.elements(flight.piece).size();
  }
}

// Every rank adds everything, in rank order; so does a world of one. Of its own elements a rank
// adds what the others decode from its frame, or its sum would differ from theirs. A lossless codec
// decodes to the elements themselves, so they are added directly.
void CompressedAllreduce::State::reduce_one_round(Flight& flight) {
  const MutableByteSpan own = flight.elements(flight.piece);
  const bool exact = size() == 1 || codecs_of(flight).reduce->spec().lossless();
  sum.reset(flight.type, flight.piece.count);
  for (Rank rank = 0; rank < size(); ++rank) {
    if (rank == self() && exact) {
      sum.add(own);
    } else if (rank == self()) {
      add(flight, own_payload(flight, kToOwner, self(), flight.own_frame_bytes), rank);
    } else {
      const FrameLabel from = label(flight, rank, rank, kToOwner, flight.piece.count);
      add(flight, flight.exchange->receive(kToOwner, rank, from), rank);
    }
  }
  sum.finish(flight.bucket->scale, own);
}

// Two rounds, the first leg: to the owners, the next rank first, so that not all of them send to
// the same one.
void CompressedAllreduce::State::send_to_owners(Flight& flight) {
  FrameExchange& exchange = *flight.exchange;
  const ElementRange own = chunk(flight, self());
  for (int hop = 1; hop < size(); ++hop) {
    const Rank peer = (self() + hop) % size();
    exchange.post_receive(kToOwner, peer, room(flight, own.count));
    exchange.post_receive(kFromOwner, peer, room(flight, chunk(flight, peer).count));
  }
  for (int hop = 1; hop < size(); ++hop) {
    const Rank owner = (self() + hop) % size();
    const ElementRange theirs = chunk(flight, owner);
    const FrameLabel to = label(flight, self(), owner, kToOwner, theirs.count);
    const size_t frame_bytes = encode_frame(flight, *codecs_of(flight).send, to, owner, theirs);
    // Sent first: the residual is decoded while the frame travels. Both only read it.
    exchange.send(kToOwner, owner, owner, frame_bytes);
    keep_residual(flight, *codecs_of(flight).send, theirs,
                  own_payload(flight, kToOwner, owner, frame_bytes));
    flight.raw_bytes += flight.elements(theirs).size();
  }
}

// The owner adds in rank order, each contribution as soon as it is its turn (its own as it is: it
// was not sent), and sends the same bytes to everybody; everybody applies what they decode to, the
// owner too.
void CompressedAllreduce::State::reduce_own_chunk(Flight& flight) {
  const ElementRange range = chunk(flight, self());
  const MutableByteSpan own = flight.elements(range);
  sum.reset(flight.type, range.count);
  for (Rank rank = 0; rank < size(); ++rank) {
    if (rank == self()) {
      sum.add(own);
    } else {
      const FrameLabel from = label(flight, rank, self(), kToOwner, range.count);
      add(flight, flight.exchange->receive(kToOwner, rank, from), rank);
    }
  }
  sum.finish(flight.bucket->scale, own);

  Codec& codec = *codecs_of(flight).reduce;
  const FrameLabel result = label(flight, self(), self(), kFromOwner, range.count);
  const size_t frame_bytes = encode_frame(flight, codec, result, self(), range);
  for (int hop = 1; hop < size(); ++hop) {
    flight.exchange->send(kFromOwner, self(), (self() + hop) % size(), frame_bytes);
    flight.raw_bytes += own.size();
  }
  // A lossless payload decodes to what is in `own` already.
  if (codec.spec().lossless()) return;
  const ByteSpan payload = own_payload(flight, kFromOwner, self(), frame_bytes);
  const std::span<float> residual = flight.residual(range);
  std::copy_n(flight.floats(range).begin(), residual.size(), residual.begin());
  const CodecClock clock(watch->traffic());
  check_decoded(codec.decode(flight.type, payload, own), self());
  // The result is scaled and contributions are not. Divided by the scale, what was dropped can be
  // added to this rank's next contribution, and comes out of the scaling as it was dropped.
  write_residual(residual, flight.floats(range), static_cast<float>(1 / flight.bucket->scale),
                 residual);
}

CompressedAllreduce::CompressedAllreduce(std::shared_ptr<Communicator> communicator,
                                         const std::vector<CodecSpec>& specs)
    : state_(std::make_unique<State>(std::move(communicator), specs)) {
  if (state_->size() > 1) state_->check_codecs();
  state_->start_threads();
}

// Each stage closes the queue to the next when it has emptied its own, so the stages end one after
// the other, and all that was asked for is finished or failed. ~State joins them.
CompressedAllreduce::~CompressedAllreduce() {
  state_->asked.close();
}

c10::intrusive_ptr<c10::ivalue::Future> CompressedAllreduce::start(at::Tensor tensor, double scale,
                                                                   uint64_t step, uint32_t bucket,
                                                                   size_t codec,
                                                                   at::Tensor residual) {
  LONGHAUL_CHECK(codec < state_->codecs.size());
  check_supports(state_->codecs[codec].send->spec(), element_type_of(tensor)).value_or_throw();
  if (!tensor.is_contiguous()) {
    throw Error(ErrorKind::kInvalid, "a compressed all-reduce takes a contiguous tensor");
  }
  if (residual.defined() &&
      (tensor.scalar_type() != at::kFloat || residual.scalar_type() != at::kFloat ||
       !residual.is_cpu() || !residual.is_contiguous() || residual.numel() != tensor.numel())) {
    throw Error(ErrorKind::kInvalid,
                "a residual is a contiguous float tensor on the CPU, of as many elements as the "
                "float tensor that it belongs to");
  }
  auto bucket_asked = std::make_shared<Bucket>();
  bucket_asked->residual = std::move(residual);
  std::vector<c10::Device> devices;
  if (!tensor.is_cpu()) {
    devices.push_back(tensor.device());
    // The work that writes the tensor may still be queued on the caller's stream. The send stage
    // waits for this event, on the host, before it copies.
    const c10::impl::VirtualGuardImpl guard(tensor.device().type());
    bucket_asked->ready = std::make_unique<c10::Event>(tensor.device().type());
    bucket_asked->ready->record(guard.getStream(tensor.device()));
  }
  FuturePtr future = c10::make_intrusive<c10::ivalue::Future>(
      c10::ListType::create(c10::TensorType::get()), std::move(devices));
  bucket_asked->future = future;
  bucket_asked->tensor = std::move(tensor);
  bucket_asked->scale = scale;
  bucket_asked->step = step;
  bucket_asked->number = bucket;
  bucket_asked->codec = codec;
  LONGHAUL_CHECK(state_->asked.push(std::move(bucket_asked)));
  return future;
}

}  // namespace longhaul
