#pragma once
/// \file
/// Room io: numbers in text files, independent of the locale, and the wording of what is wrong with them.

#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>

#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// What separates words: a space or a tab. Independent of the locale, unlike std::isspace.
constexpr bool is_blank(char c) { return c == ' ' || c == '\t'; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// `text` without the blanks at both ends.
constexpr std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

/// Input for an error message: in double quotes, cut after 40 characters, everything that is not printable
/// ASCII as \xNN. One line whatever the file holds. (Not named quoted(): std::quoted would be found as well.)
std::string quote_input(std::string_view text);

namespace detail {

/// Sign of the decimal exponent of the number in [first, last), which std::from_chars has found out of range:
/// true when it is too large, false when it is too small. Both come back as the same error code.
bool is_huge(const char* first, const char* last);

bool equals_ignoring_case(std::string_view a, std::string_view b);

inline bool is_any_of(std::string_view text, std::initializer_list<std::string_view> words) {
  for (const std::string_view word : words)
    if (equals_ignoring_case(text, word)) return true;
  return false;
}

}  // namespace detail

/// Reads the decimal number at the start of [first, last) into `value`, correctly rounded to float32, and
/// returns the place behind it. Null when there is no number, or none that float32 can hold. The caller
/// checks that what follows ends the number.
///
/// Accepts `1`, `+1`, `-1.5`, `.5`, `5.`, `1e-3`; not hexadecimal, nan or inf. Values that are too small
/// become denormal or zero. The decimal point is a point whatever the locale.
const char* parse_number(const char* first, const char* last, float& value);

/// The same, rounded to double; of the same range, float32's.
const char* parse_number(const char* first, const char* last, double& value);

/// Whether all of `text` is one number that parse_number() accepts.
inline bool is_number(std::string_view text) {
  float value = 0;
  return parse_number(text.data(), text.data() + text.size(), value) == text.data() + text.size() &&
         !text.empty();
}

/// Whether `text` spells a NaN or an infinity in any of the ways that programs print them.
inline bool is_nonfinite(std::string_view text) {
  if (!text.empty() && (text.front() == '+' || text.front() == '-')) text.remove_prefix(1);
  return detail::is_any_of(text, {"nan", "inf", "infinity", "nan(ind)", "nan(snan)", "-nan(ind)", "1.#inf",
                                  "1.#ind", "1.#qnan", "1.#snan", "qnan", "snan"});
}

/// Whether `text` is one of the usual marks of a missing value, the empty text included.
inline bool is_missing(std::string_view text) {
  return text.empty() || detail::is_any_of(text, {"na", "n/a", "#n/a", "null", "none", "?", "-", "."});
}

/// Whether `text` is a name: not a number, well or badly written, and not a missing value.
bool is_name(std::string_view text);
/// A name that is no number with something wrong in it.
inline bool is_word(std::string_view text) {
  return is_name(text) && !is_digit(text[0]) && text[0] != '+' && text[0] != '-' && text[0] != '.';
}
/// Digits with what parts a date or a time.
inline bool is_date(std::string_view text) {
  return text.size() > 4 && is_digit(text[0]) && text.find_first_of("-/:", 1) != std::string_view::npos;
}

/// Throws the Error that says why `text` is not a usable number; `what` names the thing, such as "label".
[[noreturn]] void throw_bad_number(Place place, const std::string& what, std::string_view text);

#if ZIPML_DEFINES

ZIPML_FUNCTION std::string quote_input(std::string_view text) {
  constexpr std::size_t longest = 40;
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size() && i < longest; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += text[i];
    } else if (c < 0x20 || c > 0x7e) {
      out += "\\x";
      out += hex[c >> 4];
      out += hex[c & 15];
    } else {
      out += text[i];
    }
  }
  if (text.size() > longest) out += "...";
  return out + '"';
}

namespace detail {

ZIPML_FUNCTION bool is_huge(const char* first, const char* last) {
  constexpr std::int64_t enough = 1'000'000'000'000;  // an exponent that no length of a line could undo
  std::int64_t point = 0;  // digits before the decimal point, from the first nonzero digit on
  bool nonzero = false, fraction = false;
  const char* p = first;
  for (; p < last; ++p) {
    if (*p == '.') {
      fraction = true;
    } else if (is_digit(*p)) {
      nonzero = nonzero || *p != '0';
      if (nonzero && !fraction) ++point;
      if (!nonzero && fraction) --point;
    } else if (*p == 'e' || *p == 'E') {
      break;
    }
  }
  if (!nonzero) return false;
  std::int64_t exponent = 0;
  bool negative = false;
  for (; p < last; ++p) {
    if (*p == '-') negative = true;
    if (is_digit(*p) && exponent < enough) exponent = exponent * 10 + (*p - '0');
  }
  return point + (negative ? -exponent : exponent) > 0;
}

ZIPML_FUNCTION bool equals_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char c = a[i] >= 'A' && a[i] <= 'Z' ? static_cast<char>(a[i] - 'A' + 'a') : a[i];
    if (c != b[i]) return false;
  }
  return true;
}

}  // namespace detail

namespace detail {

template <class T>
const char* parse_real(const char* first, const char* last, T& value) {
  const char* p = first;
  if (p < last && *p == '+') ++p;                                        // std::from_chars takes no plus
  const char* digits = p < last && *p == '-' && p == first ? p + 1 : p;  // ... but "+-1" is not a number
  if (digits == last || !(is_digit(*digits) || *digits == '.')) return nullptr;
  const std::from_chars_result result = std::from_chars(p, last, value);
  // A double up to half way behind float32's largest number rounds to that.
  constexpr T largest = sizeof(T) == 4 ? static_cast<T>((std::numeric_limits<float>::max)())
                                       : static_cast<T>(3.4028235677973362e38);
  if (result.ec == std::errc{}) return value <= largest && value >= -largest ? result.ptr : nullptr;
  if (result.ec != std::errc::result_out_of_range || is_huge(digits, result.ptr)) return nullptr;
  value = p != digits ? T{-0.0f} : T{0.0f};
  return result.ptr;
}

}  // namespace detail

ZIPML_FUNCTION const char* parse_number(const char* first, const char* last, float& value) {
  return detail::parse_real(first, last, value);
}
namespace detail {

/// 10^0 to 10^15, exact in double.
inline constexpr double powers_of_ten[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                           1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

/// The digits that text begins with, up to 8 of them, without a branch for each: bytes as lanes of a word (in
/// the manner of Lemire 2021, Number parsing at a gigabyte per second, section 5). `text` has 8 bytes.
struct DigitRun {
  int count;             ///< 0 to 8
  std::uint64_t number;  ///< that they spell
};
inline DigitRun digit_run(const char* text) {
  std::uint64_t word;
  std::memcpy(&word, text, sizeof word);
  const std::uint64_t values = word ^ 0x3030303030303030u;  // 0 to 9 in the lanes of digits
  const std::uint64_t others = ((values + 0x7676767676767676u) | values) & 0x8080808080808080u;
  const int count = others == 0 ? 8 : __builtin_ctzll(others) / 8;
  // The digits as the last of 8: tens, then hundreds, then ten thousands at a time.
  std::uint64_t lanes = count == 0 ? 0 : values << (64 - 8 * count);
  lanes = (lanes * 10 + (lanes >> 8)) & 0x00ff00ff00ff00ffu;
  lanes = (lanes * 100 + (lanes >> 16)) & 0x0000ffff0000ffffu;
  return {count, (lanes * 10000 + (lanes >> 32)) & 0xffffffffu};
}

/// Up to 15 digits with a decimal point among them, no exponent: a whole number m < 2^53 over a power of ten up to
/// 10^15, both exact in double, so that one division rounds correctly (Clinger 1990, How to read floating
/// point numbers accurately). Null for all others.
inline const char* parse_short(const char* p, const char* last, double& value) {
  const bool negative = p < last && *p == '-';
  p += negative ? 1 : 0;
  std::uint64_t whole = 0;
  std::ptrdiff_t digits = 0, behind = 0;
  constexpr std::ptrdiff_t enough = 17;  // two runs and a point
  if (std::endian::native == std::endian::little && last - p >= enough) {
    const DigitRun before = digit_run(p);
    p += before.count;
    whole = before.number;
    digits = before.count;
    if (before.count == 8) return nullptr;
    if (*p == '.') {
      const DigitRun after = digit_run(++p);
      if (after.count == 8) return nullptr;
      p += after.count;
      whole = whole * static_cast<std::uint64_t>(powers_of_ten[after.count]) + after.number;
      behind = after.count;
      digits += behind;
    }
  } else {
    const char* const begin = p;
    for (; p < last && is_digit(*p); ++p) whole = whole * 10 + static_cast<std::uint64_t>(*p - '0');
    digits = p - begin;
    if (p < last && *p == '.') {
      const char* const point = ++p;
      for (; p < last && is_digit(*p); ++p) whole = whole * 10 + static_cast<std::uint64_t>(*p - '0');
      behind = p - point;
      digits += behind;
    }
  }
  if (digits == 0 || digits > 15 || (p < last && (*p == 'e' || *p == 'E'))) return nullptr;
  const double magnitude = static_cast<double>(whole) / powers_of_ten[behind];
  value = negative ? -magnitude : magnitude;
  return p;
}

}  // namespace detail

ZIPML_FUNCTION const char* parse_number(const char* first, const char* last, double& value) {
  double number = 0.0;
  if (const char* const end = detail::parse_short(first, last, number)) {
    value = number;
    return end;
  }
  return detail::parse_real(first, last, value);
}

ZIPML_FUNCTION bool is_name(std::string_view text) {
  if (is_missing(text) || is_nonfinite(text)) return false;
  bool digit = false, other = false;
  for (const char c : text) {
    digit = digit || is_digit(c);
    other = other || !(is_digit(c) || std::string_view("+-.,eE").find(c) != std::string_view::npos);
  }
  return other || !digit;
}

ZIPML_FUNCTION void throw_bad_number(Place place, const std::string& what, std::string_view text) {
  if (text.empty()) throw Error(std::move(place), what + " is missing", "a number", "nothing");
  if (is_missing(text)) throw Error(std::move(place), what + " is missing", "a number", quote_input(text));
  if (is_nonfinite(text))
    throw Error(std::move(place), what + " is not finite", "a finite number", quote_input(text));

  bool decimal = true, comma = false, digit = false;
  for (const char c : text) {
    decimal =
        decimal && (is_digit(c) || c == '.' || c == ',' || c == '+' || c == '-' || c == 'e' || c == 'E');
    comma = comma || c == ',';
    digit = digit || is_digit(c);
  }
  if (decimal && digit && comma && text.find('.') != std::string_view::npos)
    throw Error(std::move(place), what + " has a comma between its digits", "digits and a decimal point",
                quote_input(text));
  if (decimal && digit && comma)
    throw Error(std::move(place), what + " has a decimal comma", "a decimal point", quote_input(text));
  // What is out of range is a number for a reader of one digit after the other, but not for parse_number().
  if (decimal && digit) {
    double wide = 0;
    const char* begin = text.data() + (text.front() == '+' ? 1 : 0);
    const char* end = text.data() + text.size();
    const std::from_chars_result result = std::from_chars(begin, end, wide);
    const bool two_signs = text.front() == '+' && *begin == '-';
    if (result.ec != std::errc::invalid_argument && result.ptr == end && !is_number(text) && !two_signs)
      throw Error(std::move(place), what + " does not fit float32", "a magnitude up to 3.4e38",
                  quote_input(text));
  }
  throw Error(std::move(place), what + " is not a number", "a number", quote_input(text));
}

#endif

}  // namespace zipml::inline ZIPML_ABI
