#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "apps/cli/command.h"
#include "apps/cli/exit_codes.h"
#include "apps/cli/follow.h"
#include "apps/cli/json_text.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

namespace fs = std::filesystem;

struct ResultsFlags {
  MasterFlags master;
  std::string job;
  std::string out;
  bool jsonl = false;
  ResultOptions options;
};

// Where results go, piece by piece.
class ResultSink {
 public:
  virtual ~ResultSink() = default;
  // False: it cannot be written.
  virtual bool take(const ResultPiece& piece) = 0;
};

// Standard output, in writes that are worth their while; every row is out when it is whole.
class RowWriter {
 public:
  void add(std::string_view text) {
    buffer_ += text;
    if (buffer_.size() >= kWriteBytes) flush();
  }
  void flush() {
    print(buffer_);
    buffer_.clear();
  }

 private:
  static constexpr size_t kWriteBytes = size_t{64} << 10;
  std::string buffer_;
};

class PlainSink final : public ResultSink {
 public:
  bool take(const ResultPiece& piece) override {
    out_.add(piece.data);
    if (piece.last) out_.flush();
    return true;
  }

 private:
  RowWriter out_;
};

// A line for each task. What is not UTF-8 becomes U+FFFD; --out gives every byte.
class JsonLineSink final : public ResultSink {
 public:
  bool take(const ResultPiece& piece) override {
    std::string line;
    if (!std::exchange(begun_, true)) {
      line = str_cat(R"({"schema":)", kJsonSchema, R"(,"task":)", piece.task, R"(,"attempt":)",
                     piece.attempt, R"(,"result":")");
    }
    text_ += piece.data;
    const std::string rest = piece.last ? "" : cut_unfinished_character();
    const std::string quoted =
        nlohmann::json(text_).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    line += std::string_view(quoted).substr(1, quoted.size() - 2);
    text_ = rest;
    if (piece.last) {
      line += "\"}\n";
      begun_ = false;
    }
    out_.add(line);
    if (piece.last) out_.flush();
    return true;
  }

 private:
  // A character that the next piece may complete waits for it.
  std::string cut_unfinished_character() {
    size_t start = text_.size();
    while (start > 0 && text_.size() - start < 4) {
      const auto byte = static_cast<unsigned char>(text_[--start]);
      if ((byte & 0xC0U) == 0x80U) continue;  // in the middle of one
      const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
      if (start + length <= text_.size()) break;
      std::string rest = text_.substr(start);
      text_.resize(start);
      return rest;
    }
    return "";
  }

  RowWriter out_;
  bool begun_ = false;
  std::string text_;
};

// A file for each task; whoever sees the file sees all of it.
class FolderSink final : public ResultSink {
 public:
  explicit FolderSink(fs::path folder) : folder_(std::move(folder)) {}

  bool take(const ResultPiece& piece) override {
    const fs::path draft = folder_ / str_cat(".", piece.task, ".new");
    if (!file_.is_open()) file_.open(draft, std::ios::binary | std::ios::trunc);
    file_ << piece.data;
    if (!piece.last) return file_.good();
    file_.close();
    std::error_code error;
    if (file_) fs::rename(draft, folder_ / std::to_string(piece.task), error);
    return file_ && !error;
  }

 private:
  const fs::path folder_;
  std::ofstream file_;
};

std::unique_ptr<ResultSink> make_sink(const std::string& out, bool jsonl) {
  if (!out.empty()) return std::make_unique<FolderSink>(out);
  if (jsonl) return std::make_unique<JsonLineSink>();
  return std::make_unique<PlainSink>();
}

int results(const ResultsFlags& flags) {
  Screen screen;
  JobClient client(flags.master.address, patient(flags.master, screen));
  std::error_code error;
  if (!flags.out.empty()) fs::create_directories(flags.out, error);
  if (error) {
    screen.message(str_cat(flags.out, ": ", error.message()));
    return kExitCannotCreate;
  }
  bool written = true;
  uint64_t count = 0;
  const std::unique_ptr<ResultSink> sink = make_sink(flags.out, flags.jsonl);
  const auto take = [&](const ResultPiece& piece) {
    count += piece.last ? 1 : 0;
    written = sink->take(piece);
    return written;
  };
  const Result<void> read = client.result_pieces(flags.job, flags.options, take);
  if (!read) return report_failure(read.failure(), screen);
  if (!written) {
    screen.message("could not write to " + flags.out);
    return kExitCannotCreate;
  }
  if (!flags.out.empty()) screen.message(str_cat(count, " results in ", flags.out));
  return 0;
}

}  // namespace

void add_results(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ResultsFlags>();
  CLI::App* command =
      app.add_subcommand("results", "what the tasks of an array gave, in task order");
  add_job_argument(*command, &flags->job);
  add_patient_master_flags(*command, &flags->master);
  CLI::Option* out =
      command->add_option("--out", flags->out, "a file for each task, called by its number")
          ->type_name("FOLDER");
  command->add_flag("--jsonl", flags->jsonl, "a line of JSON for each task")->excludes(out);
  command->add_flag("-f,--follow", flags->options.follow, "go on until the job has ended");
  command->add_option("--from", flags->options.first_task, "the first task wanted")
      ->type_name("TASK");
  command->footer(
      "Without --follow it gives what there is now without a gap. Tasks that were given up have "
      "no\n"
      "result: longhaul status names them.\n"
      "Examples:\n"
      "  longhaul results last --jsonl\n"
      "  longhaul results j3 -f --out results");
  command->callback([flags, action] { *action = [flags] { return results(*flags); }; });
}

}  // namespace longhaul::cli
