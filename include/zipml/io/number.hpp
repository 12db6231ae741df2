#pragma once
/// \file
/// Room io: numbers in text files, independent of the locale, and the wording of what is wrong with them.

#include <charconv>
#include <cstdint>
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
ZIPML_FUNCTION const char* parse_number(const char* first, const char* last, double& value) {
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
