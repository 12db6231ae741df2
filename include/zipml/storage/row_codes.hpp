#pragma once
/// \file
/// Room storage: the codes of one row, read one by one.

#include <cstdint>

#include <zipml/storage/plane_layout.hpp>

namespace zipml::inline ZIPML_ABI {

/// Where the codes of one row stand: code_j = sum over planes of (bytes[j] >> shift & mask) << weight.
/// Kernels read up to 63 bytes behind column d of each panel.
struct RowCodes {
  RowCodes(const std::uint8_t* codes, const PlaneLayout& layout, const PlaneList& planes, Index row)
      : count(planes.count) {
    const auto in_group = static_cast<int>(row % group_rows);
    for (int p = 0; p < count; ++p) {
      const int bit = in_group * planes[p].width;  // of the 8 / width rows in a byte
      bytes[p] = codes + layout.offset(planes[p], row / group_rows) + bit / 8 * layout.cols;
      shift[p] = bit % 8;
      mask[p] = (1 << planes[p].width) - 1;
      weight[p] = planes[p].shift;
    }
  }
  int operator[](Index j) const {
    int code = 0;
    for (int p = 0; p < count; ++p) code += (bytes[p][j] >> shift[p] & mask[p]) << weight[p];
    return code;
  }

  int count;
  const std::uint8_t* bytes[max_planes];
  int shift[max_planes];
  int mask[max_planes];
  int weight[max_planes];
};

}  // namespace zipml::inline ZIPML_ABI
