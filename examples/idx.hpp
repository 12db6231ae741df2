#pragma once
// Files in the IDX format of MNIST.

#include <array>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>
#include <zipml/base/error.hpp>

/// 0, 0, type 8 (bytes), number of dimensions, their sizes, most significant byte first, then the bytes.
struct Idx {
  std::vector<std::size_t> sizes;
  std::string bytes;
  std::size_t begin = 0;

  /// Throws zipml::Error for a file that is none.
  explicit Idx(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw zipml::Error(zipml::Place{path}, "cannot open", "an IDX file", "none");
    bytes.assign(std::istreambuf_iterator<char>(file), {});
    const auto byte = [&](std::size_t i) {
      return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]));
    };
    const bool is_idx = bytes.size() >= 4 && byte(0) == 0 && byte(1) == 0 && byte(2) == 8;
    const std::size_t dimensions = is_idx ? byte(3) : 0;
    begin = 4 + 4 * dimensions;
    std::size_t count = 1;
    bool fits = true;
    for (std::size_t k = 0; k < dimensions && begin <= bytes.size(); ++k) {
      const std::size_t at = 4 + 4 * k;
      sizes.push_back(byte(at) << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3));
      fits = fits && (sizes.back() == 0 || count <= bytes.size() / sizes.back());
      count *= fits ? sizes.back() : 0;
    }
    if (dimensions == 0 || sizes.size() != dimensions || !fits || bytes.size() - begin != count)
      throw zipml::Error(zipml::Place{path}, "is no IDX file of bytes",
                         "a header and as many bytes as it says", std::to_string(bytes.size()) + " bytes");
  }
  unsigned char operator[](std::size_t i) const { return static_cast<unsigned char>(bytes[begin + i]); }
};

inline bool is_idx(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 4> magic{};
  file.read(magic.data(), 4);
  return file && magic[0] == 0 && magic[1] == 0 && magic[2] == 8;
}
