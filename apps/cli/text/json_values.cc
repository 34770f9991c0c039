#include "apps/cli/text/json_values.h"

#include <nlohmann/json.hpp>

#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kDigits = "0123456789";

// Reads tokens from the front of a text. The first error stays; from then on nothing is found.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  // The next byte that is no white space; 0 at the end.
  char peek() {
    at_ = std::min(text_.find_first_not_of(kSpace, at_), text_.size());
    return !failed_ && at_ < text_.size() ? text_[at_] : '\0';
  }

  bool at_end() {
    peek();
    return at_ == text_.size();
  }

  bool take(char wanted) {
    if (failed_ || peek() != wanted) return false;
    ++at_;
    return true;
  }

  // One value without the white space in it, appended to `out`. Without recursion, so that deep
  // input takes no stack.
  void value(std::string* out) {
    std::string open;  // the brackets that are to be closed
    do {
      one_value(&open, out);
      while (!failed_ && !open.empty() && take(open.back())) {
        *out += open.back();
        open.pop_back();
      }
      if (failed_ || open.empty()) return;
      next_member(open.back(), out);
    } while (!failed_);
  }

  std::string_view string_token() {
    const size_t begin = at_;
    for (size_t end = begin + 1; end < text_.size(); ++end) {
      if (text_[end] == '\\') {
        ++end;
      } else if (text_[end] == '"') {
        at_ = end + 1;
        const std::string_view token = text_.substr(begin, at_ - begin);
        if (!nlohmann::json::accept(token)) fail(begin, "is no string of JSON");
        return token;
      }
    }
    fail(begin, "begins a string that does not end");
    return "\"\"";
  }

  void fail(size_t at, const char* what) {
    if (failed_) return;
    failed_ = true;
    error_ = str_cat("byte ", at + 1, " ", what);
  }
  void fail(const char* what) { fail(at_, what); }
  bool failed() const { return failed_; }
  const std::string& error() const { return error_; }

 private:
  // A scalar, or an opening bracket with the key behind it. An array or object that is empty is
  // closed by value().
  void one_value(std::string* open, std::string* out) {
    for (char next = peek(); next == '[' || next == '{'; next = peek()) {
      if (open->size() == kDeepestJson)
        return fail("opens an array or object too deep inside others");
      ++at_;
      *out += next;
      *open += next == '[' ? ']' : '}';
      if (peek() == open->back()) return;
      if (next == '{') key(out);
    }
    if (peek() == '"') {
      *out += string_token();
    } else {
      scalar(out);
    }
  }

  void next_member(char closing, std::string* out) {
    if (!take(',')) return fail("is neither a comma nor the closing bracket");
    *out += ',';
    if (closing == '}') key(out);
  }

  void key(std::string* out) {
    if (peek() != '"') return fail("begins no key");
    *out += string_token();
    if (!take(':')) return fail("is no colon behind a key");
    *out += ':';
  }

  void scalar(std::string* out) {
    for (const std::string_view word : {"true", "false", "null"}) {
      if (peek() == word[0] && text_.substr(at_).starts_with(word)) {
        *out += word;
        at_ += word.size();
        return;
      }
    }
    number(out);
  }

  void number(std::string* out) {
    const size_t begin = at_;
    skip_one("-");
    if (!skip_one("0") && !skip_all(kDigits)) return fail(begin, "begins no value");
    if (skip_one(".") && !skip_all(kDigits)) return fail(begin, "begins no number of JSON");
    if (skip_one("eE")) {
      skip_one("+-");
      if (!skip_all(kDigits)) return fail(begin, "begins no number of JSON");
    }
    *out += text_.substr(begin, at_ - begin);
  }

  bool skip_one(std::string_view letters) {
    if (at_ >= text_.size() || letters.find(text_[at_]) == std::string_view::npos) return false;
    ++at_;
    return true;
  }
  bool skip_all(std::string_view letters) {
    const size_t begin = at_;
    at_ = std::min(text_.find_first_not_of(letters, at_), text_.size());
    return at_ > begin;
  }

  const std::string_view text_;
  size_t at_ = 0;
  bool failed_ = false;
  std::string error_;
};

std::string one_element(Scanner& scanner) {
  std::string text;
  if (scanner.peek() != '"') {
    scanner.value(&text);
    return text;
  }
  const std::string_view token = scanner.string_token();
  return scanner.failed() ? "" : nlohmann::json::parse(token).get<std::string>();
}

}  // namespace

Result<std::vector<std::string>> json_array_values(std::string_view text) {
  Scanner scanner(text);
  std::vector<std::string> values;
  if (!scanner.take('[')) scanner.fail("begins no array");
  if (!scanner.take(']')) {
    do {
      values.push_back(one_element(scanner));
    } while (scanner.take(','));
    if (!scanner.take(']')) scanner.fail("is neither a comma nor the end of the array");
  }
  if (!scanner.at_end()) scanner.fail("comes after the end of the array");
  if (scanner.failed()) return Failure{ErrorKind::kInvalid, scanner.error()};
  return values;
}

}  // namespace longhaul::cli
