// Preloaded into a program (LD_PRELOAD): the locale that is hardest on whoever writes numbers for
// machines. C++ streams put a comma behind every digit and before fractions; printf() and strtod()
// use the C locale that HOSTILE_C_LOCALE names (tests make one with a decimal comma).
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <locale>

namespace {

class EveryDigitApart : public std::numpunct<char> {
 protected:
  char do_thousands_sep() const override { return ','; }
  char do_decimal_point() const override { return ','; }
  std::string do_grouping() const override { return "\1"; }
};

__attribute__((constructor)) void make_hostile() {
  std::locale::global(std::locale(std::locale::classic(), new EveryDigitApart));
  const char* name = std::getenv("HOSTILE_C_LOCALE");
  if (name == nullptr || std::setlocale(LC_ALL, name) != nullptr) return;
  std::fprintf(stderr, "hostile_locale: there is no locale %s\n", name);
  std::_Exit(98);
}

}  // namespace
