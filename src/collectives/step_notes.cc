#include "collectives/step_notes.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "longhaul/base/bytes.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using Phase = StepNote::Phase;

constexpr size_t kFixedBytes = 1 + 4 + 3 * 8;
// A rank waits for the others in every step, so it is ahead of them by a few notes only. Beyond so
// many it is broken, and its notes are refused before they take more memory.
constexpr size_t kMaxAhead = 4096;

auto what_must_agree(const StepNote& note) {
  return std::make_tuple(note.phase, note.wrapper, note.step, note.layout);
}

bool is_shadow(const StepNote& note) {
  return note.phase == Phase::kShadow;
}

std::string describe(const StepNote& note) {
  const std::string why = note.why.empty() ? "" : str_cat(" (", note.why, ")");
  switch (note.phase) {
    case Phase::kForward:
      return str_cat("in the forward pass of step ", note.step, why);
    case Phase::kBackward:
      return str_cat("in the backward pass of step ", note.step, why);
    case Phase::kRehook:
      return str_cat("before step ", note.step, " with a model that changed", why);
    case Phase::kShadow:
      return "without inputs";
  }
  return "";
}

// "rank 1", "ranks 0 and 2", "ranks 0, 2 and 3".
std::string name(const std::vector<Rank>& ranks) {
  std::string text = ranks.size() > 1 ? "ranks " : "rank ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += str_cat(ranks[i]);
  }
  return text;
}

// "rank 1 at 12, ranks 0 and 2 at 13", the smallest first. `tell` gives a note's text; those with
// the same `key` are told once.
template <typename Key, typename Tell>
std::string list(std::span<const StepNote> notes, const Key& key, const Tell& tell) {
  std::map<decltype(key(notes[0])), std::vector<Rank>> groups;
  for (size_t rank = 0; rank < notes.size(); ++rank) {
    if (!is_shadow(notes[rank])) groups[key(notes[rank])].push_back(static_cast<Rank>(rank));
  }
  std::vector<std::string> parts;
  parts.reserve(groups.size());
  for (const auto& [value, ranks] : groups) {
    parts.push_back(str_cat(name(ranks), " ", tell(notes[static_cast<size_t>(ranks[0])])));
  }
  return join(parts, ", ");
}

template <typename Key>
bool differ(std::span<const StepNote> notes, const Key& key) {
  const StepNote* first = nullptr;
  for (const StepNote& note : notes) {
    if (is_shadow(note)) continue;
    if (first != nullptr && key(note) != key(*first)) return true;
    first = &note;
  }
  return false;
}

}  // namespace

std::string encode(const StepNote& note) {
  std::string text(kFixedBytes, '\0');
  auto* bytes = reinterpret_cast<uint8_t*>(text.data());
  bytes[0] = static_cast<uint8_t>(note.phase);
  store<uint32_t>(bytes + 1, note.wrapper);
  store<uint64_t>(bytes + 5, note.step);
  store<uint64_t>(bytes + 13, note.layout);
  store<uint64_t>(bytes + 21, note.changes);
  // Cut, so that a note fits into one record of the monitor (1,024 bytes of text).
  return text + note.why.substr(0, 512);
}

std::optional<StepNote> decode_note(std::string_view text) {
  if (text.size() < kFixedBytes) return std::nullopt;
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  if (bytes[0] < 1 || bytes[0] > static_cast<uint8_t>(Phase::kShadow)) return std::nullopt;
  StepNote note;
  note.phase = static_cast<Phase>(bytes[0]);
  note.wrapper = load<uint32_t>(bytes + 1);
  note.step = load<uint64_t>(bytes + 5);
  note.layout = load<uint64_t>(bytes + 13);
  note.changes = load<uint64_t>(bytes + 21);
  note.why = std::string(text.substr(kFixedBytes));
  return note;
}

// The most telling difference first, because one mostly brings others with it: ranks in different
// models are at different steps too. What is left when model, step and phase agree is the layout.
std::optional<std::string> explain_difference(std::span<const StepNote> notes) {
  const auto step = [](const StepNote& note) { return note.step; };
  const auto place = [](const StepNote& note) { return std::make_pair(note.step, note.phase); };
  const auto wrapper = [](const StepNote& note) { return note.wrapper; };
  if (!differ(notes, what_must_agree)) return std::nullopt;
  if (differ(notes, wrapper)) {
    return "ranks use different models at the same time: " +
           list(notes, wrapper, [](const StepNote& note) {
             return str_cat("in DistributedDataParallel number ", note.wrapper + 1, " ",
                            describe(note));
           });
  }
  if (!differ(notes, [](const StepNote& note) { return note.phase; }) && differ(notes, step)) {
    return str_cat(
        "ranks are at different steps: ",
        list(notes, step, [](const StepNote& note) { return str_cat("at ", note.step); }),
        "; one of them left out a backward pass, or made a forward pass that the others did not "
        "(evaluate under torch::NoGradGuard)");
  }
  if (differ(notes, [](const StepNote& note) { return note.phase == Phase::kRehook; })) {
    return "the model was changed after it was wrapped, on some ranks only: " +
           list(notes, place, describe) +
           "; load a checkpoint, freeze or convert on every rank, at the same step";
  }
  if (differ(notes, place)) {
    return "ranks are at different steps: " + list(notes, place, describe);
  }
  if (notes[0].phase == Phase::kBackward) {
    return "ranks leave out different buckets: " + list(notes, what_must_agree, describe) +
           "; skip_all_reduce_unused_params asks that every rank leaves the same parameters out of "
           "a step: use find_unused_parameters without it";
  }
  return "the models' buffers are not the same on all ranks any more: " +
         list(notes, what_must_agree, describe);
}

// Without a majority (of two ranks, say) the rank that is furthest ahead is named: one that left
// out a backward pass, or made a forward pass too many, is ahead of the others.
Rank odd_one_out(std::span<const StepNote> notes) {
  std::map<decltype(what_must_agree(notes[0])), size_t> votes;
  for (const StepNote& note : notes) ++votes[what_must_agree(note)];
  for (size_t rank = 0; rank < notes.size(); ++rank) {
    const bool majority = 2 * votes[what_must_agree(notes[rank])] > notes.size();
    const bool exists = std::any_of(votes.begin(), votes.end(), [&](const auto& vote) {
      return 2 * vote.second > notes.size();
    });
    if (exists && !majority) return static_cast<Rank>(rank);
  }
  const auto ahead =
      std::max_element(notes.begin(), notes.end(),
                       [](const StepNote& a, const StepNote& b) { return a.step < b.step; });
  return static_cast<Rank>(ahead - notes.begin());
}

StepNotes::StepNotes(Rank self, int size)
    : self_(static_cast<size_t>(self)), notes_(static_cast<size_t>(size)) {}

void StepNotes::connect(Sender sender, Complaint complaint) {
  sender_ = std::move(sender);
  complaint_ = std::move(complaint);
}

uint64_t StepNotes::post(const StepNote& note) {
  // Sent first and compared here afterwards, because the others wait for it. No lock is held while
  // it is handed to the monitor.
  if (sender_) sender_(encode(note));
  std::optional<std::pair<std::string, Rank>> difference;
  uint64_t number = 0;
  {
    MutexLock lock(mutex_);
    number = posted_++;
    notes_[self_].push_back(note);
    difference = compare();
  }
  complain(difference);
  return number;
}

bool StepNotes::hear(Rank rank, std::string_view text) {
  const std::optional<StepNote> note = decode_note(text);
  if (!note) return false;
  std::optional<std::pair<std::string, Rank>> difference;
  {
    MutexLock lock(mutex_);
    auto& theirs = notes_[static_cast<size_t>(rank)];
    if (theirs.size() >= kMaxAhead) return false;
    theirs.push_back(*note);
    difference = compare();
  }
  complain(difference);
  return true;
}

// Each rank's notes come in order, so the n-th round is complete when every rank's queue has a
// note. All ranks compare the same notes and come to the same verdict. After a difference nothing
// is compared any more: later notes would differ only because of the first.
std::optional<std::pair<std::string, Rank>> StepNotes::compare() {
  const auto waits = [](const std::deque<StepNote>& notes) { return notes.empty(); };
  while (!differ_ && std::none_of(notes_.begin(), notes_.end(), waits)) {
    std::vector<StepNote> round;
    for (auto& notes : notes_) {
      round.push_back(std::move(notes.front()));
      notes.pop_front();
    }
    if (std::optional<std::string> difference = explain_difference(round)) {
      differ_ = true;
      return std::make_pair(*std::move(difference), odd_one_out(round));
    }
    if (differ(round, [](const StepNote& note) { return note.changes; })) {
      changes_differ_.insert(compared_);
    }
    ++compared_;
    changed_.notify_all();
  }
  return std::nullopt;
}

// Called without the lock: the complaint makes the world fail, which calls give_up() here. Waiters
// are woken after it, so that they find the failure when they look for the reason.
void StepNotes::complain(const std::optional<std::pair<std::string, Rank>>& difference) {
  if (!difference) return;
  if (complaint_) complaint_(difference->first, difference->second);
  give_up();
}

void StepNotes::give_up() {
  MutexLock lock(mutex_);
  given_up_ = true;
  changed_.notify_all();
}

void StepNotes::settle(Instant deadline) {
  MutexLock lock(mutex_);
  while (compared_ < posted_ && !given_up_ && changed_.wait_until(mutex_, deadline)) {
  }
}

StepNotes::Outcome StepNotes::await(uint64_t number, Instant deadline) {
  MutexLock lock(mutex_);
  while (compared_ <= number) {
    if (given_up_) return Outcome::kGivenUp;
    if (!changed_.wait_until(mutex_, deadline)) return Outcome::kTimeOut;
  }
  // Entries of earlier numbers are never asked for again. That of this number stays, because it may
  // be awaited a second time.
  changes_differ_.erase(changes_differ_.begin(), changes_differ_.lower_bound(number));
  return changes_differ_.contains(number) ? Outcome::kChangesDiffer : Outcome::kAgreed;
}

}  // namespace longhaul
