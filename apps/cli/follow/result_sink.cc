#include "apps/cli/follow/result_sink.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/cli/follow/screen.h"
#include "apps/cli/text/base64.h"
#include "apps/cli/text/json_text.h"
#include "apps/cli/text/terminal_text.h"
#include "base/printable.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Standard output. Pieces are gathered into writes of 64 KiB, but a row that is whole is written at
// once: whoever reads the other end of a pipe gets it as soon as it is there.
class RowWriter {
 public:
  void add(std::string_view text, bool row_ends) {
    buffer_ += text;
    if (!row_ends && buffer_.size() < kWriteBytes) return;
    print(buffer_);
    buffer_.clear();
  }

 private:
  static constexpr size_t kWriteBytes = size_t{64} << 10;
  std::string buffer_;
};

class PlainSink final : public ResultSink {
 public:
  explicit PlainSink(bool filtered) : filtered_(filtered) {}

  bool take(const ResultPiece& piece) override {
    if (!filtered_) {
      out_.add(piece.data, piece.last);
      return true;
    }
    text_ += piece.data;
    const size_t whole_lines = piece.last ? text_.size() : text_.rfind('\n') + 1;
    out_.add(terminal_text(std::string_view(text_).substr(0, whole_lines)), piece.last);
    text_.erase(0, whole_lines);
    return true;
  }

 private:
  const bool filtered_;
  RowWriter out_;
  std::string text_;
};

// --- JSON --------------------------------------------------------------------------------------

const char* outcome_name(TaskOutcome outcome) {
  switch (outcome) {
    case TaskOutcome::kGivenUp:
      return "given_up";
    case TaskOutcome::kCancelled:
      return "cancelled";
    default:
      return "done";
  }
}

std::string in_base64(std::string_view bytes) {
  Base64 base64;
  const std::string text = base64.add(bytes);
  return text + base64.finish();
}

// A text and how it is written, in one go.
void add_text(const char* name, const char* encoding_name, std::string_view bytes, Json* row) {
  const bool text = is_utf8(bytes);
  (*row)[name] = text ? std::string(bytes) : in_base64(bytes);
  (*row)[encoding_name] = text ? "utf-8" : "base64";
}

Json description(const ResultPiece& piece) {
  Json row = {{"schema", kJsonSchema},
              {"task", piece.task},
              {"state", outcome_name(piece.outcome)},
              {"attempt", piece.attempt}};
  if (piece.input_damaged.empty()) {
    add_text("input", "input_encoding", piece.input, &row);
  } else {
    row["input"] = nullptr;
    row["input_encoding"] = nullptr;
    row["input_error"] = std::string(piece.input_damaged);
  }
  row["worker"] = piece.worker.empty() ? Json(nullptr) : Json(std::string(piece.worker));
  row["duration_ms"] = piece.ran_ms ? Json(*piece.ran_ms) : Json(nullptr);
  const bool failed = piece.outcome != TaskOutcome::kDone;
  row["error"] = failed && !piece.error.empty() ? Json(std::string(piece.error)) : Json(nullptr);
  return row;
}

std::string dumped(const Json& row) {
  return row.dump(-1, ' ', false, Json::error_handler_t::replace);
}

class JsonSink final : public ResultSink {
 public:
  bool take(const ResultPiece& piece) override {
    if (!piece.damaged.empty()) return take_damaged(piece);
    if (piece.outcome != TaskOutcome::kDone) return take_failed(description(piece));
    if (piece.size > kLongestText) return take_large(piece);
    text_ += piece.data;
    if (!piece.last) return true;
    Json row = description(piece);
    row["encoding"] = nullptr;  // its place is before the result's
    add_text("result", "encoding", std::exchange(text_, {}), &row);
    out_.add(dumped(row) + "\n", true);
    return true;
  }

 private:
  bool take_failed(Json row) {
    row["encoding"] = nullptr;
    row["result"] = nullptr;
    out_.add(dumped(row) + "\n", true);
    return true;
  }

  // What has been written of a large result cannot be taken back, so its row is ended and says that
  // it is void.
  bool take_damaged(const ResultPiece& piece) {
    text_.clear();
    if (std::exchange(begun_, false)) {
      out_.add(base64_.finish() + "\",\"damaged\":true}\n", true);
      return true;
    }
    Json row = description(piece);
    row["state"] = "damaged";
    row["error"] = std::string(piece.damaged);
    row["damaged"] = true;
    return take_failed(std::move(row));
  }

  // A large result is never in memory as a whole, so nobody can tell whether it is text; base64
  // takes any bytes.
  bool take_large(const ResultPiece& piece) {
    std::string line;
    if (!std::exchange(begun_, true)) {
      Json row = description(piece);
      row["encoding"] = "base64";
      line = dumped(row);
      line.pop_back();
      line += R"(,"result":")";
    }
    line += base64_.add(piece.data);
    if (piece.last) {
      line += base64_.finish() + "\"}\n";
      begun_ = false;
    }
    out_.add(line, piece.last);
    return true;
  }

  RowWriter out_;
  std::string text_;
  bool begun_ = false;
  Base64 base64_;
};

// --- Files -------------------------------------------------------------------------------------

class FolderSink final : public ResultSink {
 public:
  explicit FolderSink(fs::path folder) : folder_(std::move(folder)) {}

  bool take(const ResultPiece& piece) override {
    if (piece.outcome != TaskOutcome::kDone) return true;
    const fs::path draft = folder_ / str_cat(".", piece.task, ".new");
    if (!file_.is_open()) file_.open(draft, std::ios::binary | std::ios::trunc);
    file_ << piece.data;
    if (!piece.last) return file_.good();
    file_.close();
    if (!piece.damaged.empty()) return ::unlink(draft.c_str()) == 0;
    // Under its own name only when it is whole: somebody may be reading the folder meanwhile.
    std::error_code error;
    if (file_) fs::rename(draft, folder_ / std::to_string(piece.task), error);
    return file_ && !error;
  }

 private:
  const fs::path folder_;
  std::ofstream file_;
};

}  // namespace

std::unique_ptr<ResultSink> make_plain_sink(bool raw) {
  return std::make_unique<PlainSink>(!raw && ::isatty(STDOUT_FILENO) == 1);
}

std::unique_ptr<ResultSink> make_json_sink() {
  return std::make_unique<JsonSink>();
}

std::unique_ptr<ResultSink> make_folder_sink(const std::string& folder) {
  return std::make_unique<FolderSink>(folder);
}

}  // namespace longhaul::cli
