#pragma once
/// \file
/// Room io: the different texts of a column, numbered in the order in which they first come.

#include <cstdint>
#include <string>
#include <string_view>

#include <zipml/base/buffer.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// A hash table from texts to their numbers. O(length of the text) a look-up.
class TextIndex {
 public:
  Index size() const { return static_cast<Index>(texts_.size()); }
  const List<std::string>& texts() const { return texts_; }

  /// The number of a text, or -1.
  Index find(std::string_view text) const {
    if (slots_.empty()) return -1;
    for (std::size_t at = hash(text);; ++at) {
      const std::uint32_t slot = slots_[at & (slots_.size() - 1)];
      if (slot == 0) return -1;
      if (texts_[slot - 1] == text) return static_cast<Index>(slot) - 1;
    }
  }
  /// The number of a text, which is added when it is new.
  Index add(std::string_view text) {
    const Index known = find(text);
    if (known >= 0) return known;
    texts_.emplace_back(text);
    if (2 * texts_.size() > slots_.size())
      grow();
    else
      place(texts_.size() - 1);
    return size() - 1;
  }

 private:
  static std::size_t hash(std::string_view text) {
    std::uint64_t sum = 0xcbf29ce484222325u;
    for (const char c : text) sum = (sum ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return static_cast<std::size_t>(sum ^ (sum >> 29));
  }
  void place(std::size_t number) {
    std::size_t at = hash(texts_[number]);
    while (slots_[at & (slots_.size() - 1)] != 0) ++at;
    slots_[at & (slots_.size() - 1)] = static_cast<std::uint32_t>(number + 1);
  }
  void grow() {
    slots_.assign(slots_.empty() ? 16 : 2 * slots_.size(), 0);
    for (std::size_t k = 0; k < texts_.size(); ++k) place(k);
  }

  List<std::string> texts_;
  List<std::uint32_t> slots_;  // a power of two of them, number + 1 or 0
};

}  // namespace zipml::inline ZIPML_ABI::detail
