#pragma once
/// \file
/// Room io: matrices of numpy: NPY files of version 1 to 3 (numpy.lib.format), mapped, so that a matrix is
/// packed from where it lies and never copied.

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/float_offset.hpp>
#include <zipml/base/views.hpp>
#include <zipml/eigen.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/load_checks.hpp>
#include <zipml/io/load_options.hpp>
#include <zipml/io/mapped_file.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/output_file.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// A matrix, or a vector, of float32 or double in an NPY file, in C or Fortran order.
///
///     const zipml::NpyFile samples("x.npy"), prices("y.npy");
///     const auto store = zipml::quantize<4>(samples.matrix(), prices.labels().label_view());
class NpyFile {
 public:
  /// Maps the file and reads its header. Throws Error, which names the file, where it is none, is cut short,
  /// has another number of bytes than its shape says, or holds what is neither float32 nor double.
  explicit NpyFile(const std::string& path) : NpyFile(path, true) {}
  /// Without `offsets`, doubles that float32 would drown in are not looked for, and nothing but the header
  /// is read.
  NpyFile(const std::string& path, bool offsets);

  Index rows() const { return view_.rows; }
  Index cols() const { return view_.cols; }  ///< 1 of a vector
  bool is_double() const { return view_.doubles != nullptr; }
  /// The values, as long as this or a copy lives.
  const MatrixView& matrix() const { return view_; }
  /// Throws Error when a part of the file was lost while it was mapped.
  void require_intact() const { file_->require_intact(); }
  /// Lets the system forget what has been read: it is read again where it is used again.
  void give_back() const { file_->give_back(); }
  /// Columns [first, first + count) of them.
  MatrixView columns(Index first, Index count) const;
  /// Column j as labels are, less an offset where float32 would drown them: a Dataset of labels alone, whose
  /// label_view() is what quantize takes. O(n).
  Dataset labels(Index j = 0) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  MatrixView view_;
};

/// Writes doubles as a vector of numpy, version 1, as write_file() does.
///
///     zipml::save_npy("predictions.npy", zipml::predict(model, data).span());
void save_npy(const std::string& path, std::span<const double> values);

/// Whether a file begins as NPY files do; false when it cannot be read.
bool is_npy_file(const std::string& path);

#if ZIPML_DEFINES

namespace detail {

inline constexpr unsigned char npy_magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

/// The header of an NPY file: a dictionary of Python with three keys, in any order.
class NpyHeader {
 public:
  NpyHeader(std::string_view text, const std::string& path) : text_(text), path_(path) {
    skip_blanks();
    expect('{');
    bool has_type = false, has_order = false, has_shape = false;
    while (skip_blanks(), !text_.empty() && text_[0] != '}') {
      const std::string key = quoted();
      skip_blanks();
      expect(':');
      skip_blanks();
      if (key == "descr" && !has_type) {
        if (!text_.empty() && text_[0] != '\'' && text_[0] != '"') refuse_type("several fields");
        take_type(quoted());
        has_type = true;
      } else if (key == "fortran_order" && !has_order) {
        fortran = take_bool();
        has_order = true;
      } else if (key == "shape" && !has_shape) {
        take_shape();
        has_shape = true;
      } else {
        fail("the keys descr, fortran_order and shape");
      }
      skip_blanks();
      if (!text_.empty() && text_[0] == ',') text_.remove_prefix(1);
    }
    expect('}');
    if (!has_type || !has_order || !has_shape) fail("the keys descr, fortran_order and shape");
  }

  int width = 0;  // bytes of a value
  bool fortran = false;
  Index rows = 0, cols = 0;

 private:
  [[noreturn]] void fail(const char* expected) const {
    throw Error(Place{path_}, "the header of the NPY file cannot be read", expected,
                quote_input(text_.substr(0, 40)));
  }
  [[noreturn]] void refuse_type(const std::string& type) const {
    throw Error(Place{path_}, "the NPY file holds no float32 or double",
                "<f4 or <f8 (numpy: x.astype('<f4'))", type);
  }
  void skip_blanks() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n' || text_[0] == '\t'))
      text_.remove_prefix(1);
  }
  void expect(char c) {
    if (text_.empty() || text_[0] != c) fail("a dictionary of descr, fortran_order and shape");
    text_.remove_prefix(1);
  }
  std::string quoted() {
    if (text_.empty() || (text_[0] != '\'' && text_[0] != '"')) fail("a text in quotes");
    const std::size_t end = text_.find(text_[0], 1);
    if (end == std::string_view::npos) fail("a text in quotes");
    const std::string result(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return result;
  }
  void take_type(const std::string& type) {
    constexpr bool little = std::endian::native == std::endian::little;
    const bool native = type.size() == 3 && (type[0] == (little ? '<' : '>') || type[0] == '=');
    if (!native || type[1] != 'f' || (type[2] != '4' && type[2] != '8')) refuse_type(quote_input(type));
    width = type[2] - '0';
  }
  bool take_bool() {
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(0, word.size()) != word) continue;
      text_.remove_prefix(word.size());
      return value;
    }
    fail("True or False");
  }
  void take_shape() {
    expect('(');
    Index numbers[2] = {0, 1};
    int count = 0;
    while (skip_blanks(), !text_.empty() && text_[0] != ')') {
      Index value = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
      if (error != std::errc{} || value < 0 || count == 2) {
        if (count == 2)
          throw Error(Place{path_}, "the NPY file holds no matrix", "one or two dimensions", "more");
        fail("numbers of rows and columns");
      }
      numbers[count++] = value;
      text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
      skip_blanks();
      if (!text_.empty() && text_[0] == ',') text_.remove_prefix(1);
    }
    expect(')');
    if (count == 0)
      throw Error(Place{path_}, "the NPY file holds no matrix", "one or two dimensions", "none");
    rows = numbers[0];
    cols = numbers[1];
  }

  std::string_view text_;
  std::string path_;
};

}  // namespace detail

ZIPML_FUNCTION NpyFile::NpyFile(const std::string& path, bool offsets)
    : file_(std::make_shared<const MappedFile>(path)) {
  const std::span<const std::uint8_t> bytes = file_->bytes();
  const auto fail = [&](const std::string& what, const std::string& expected, const std::string& got) {
    throw Error(Place{path}, what, expected, got);
  };
  if (bytes.size() < 10 || std::memcmp(bytes.data(), detail::npy_magic, sizeof detail::npy_magic) != 0)
    fail("is no NPY file", "what numpy.save writes", "another beginning");
  const int version = bytes[6];
  if (version < 1 || version > 3 || bytes[7] != 0)
    fail("the NPY file is of another version", "1.0 to 3.0",
         std::to_string(version) + "." + std::to_string(bytes[7]));
  const std::size_t begin = version == 1 ? 10 : 12;
  std::size_t length = bytes[8] | std::size_t{bytes[9]} << 8;
  if (version > 1 && bytes.size() >= 12)
    length |= std::size_t{bytes[10]} << 16 | std::size_t{bytes[11]} << 24;
  if (bytes.size() < begin || bytes.size() - begin < length)
    fail("the NPY file is cut short", std::to_string(begin + length) + " bytes of header",
         std::to_string(bytes.size()));
  const detail::NpyHeader header({reinterpret_cast<const char*>(bytes.data()) + begin, length}, path);
  constexpr Index most = Index{1} << 50;  // values; then their bytes are a number too
  if (header.cols > 0 && header.rows > most / header.cols)
    fail("the NPY file is too large", "at most 2^50 values",
         std::to_string(header.rows) + " x " + std::to_string(header.cols));
  const Index expected = header.rows * header.cols * header.width;
  const auto have = static_cast<Index>(bytes.size() - begin - length);
  if (have != expected)
    fail(have < expected ? "the NPY file is cut short" : "the NPY file has bytes behind its values",
         std::to_string(expected) + " bytes of " + std::to_string(header.rows) + " x " +
             std::to_string(header.cols) + " values",
         std::to_string(have));
  const std::uint8_t* const data = bytes.data() + begin + length;
  if (reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(header.width) != 0)
    fail("the values of the NPY file are not aligned",
         "a header that ends at a multiple of " + std::to_string(header.width),
         std::to_string(begin + length));
  view_.rows = header.rows;
  view_.cols = header.cols;
  view_.stride = header.fortran ? 1 : header.cols;
  view_.col_stride = header.fortran ? header.rows : 1;
  if (header.width == 4) {
    view_.data = reinterpret_cast<const float*>(data);
  } else {
    view_.doubles = reinterpret_cast<const double*>(data);
    if (offsets) view_.offsets = detail::offsets_of(view_);
  }
}

ZIPML_FUNCTION MatrixView NpyFile::columns(Index first, Index count) const {
  MatrixView part = view_;
  part.cols = count;
  if (part.doubles != nullptr)
    part.doubles += first * view_.col_stride;
  else
    part.data += first * view_.col_stride;
  if (view_.offsets) {
    auto some = std::make_shared<Buffer<double>>(count);
    std::copy_n(view_.offsets->data() + first, count, some->data());
    part.offsets = std::move(some);
  }
  return part;
}

ZIPML_FUNCTION Dataset NpyFile::labels(Index j) const {
  Dataset data;
  data.rows = rows();
  Buffer<double> values(rows());
  for (Index i = 0; i < rows(); ++i) {
    const Index at = i * view_.stride + j * view_.col_stride;
    values[i] = is_double() ? view_.doubles[at] : static_cast<double>(view_.data[at]);
  }
  detail::round_labels(values, data);
  data.source = file_->path();
  return data;
}

ZIPML_FUNCTION void save_npy(const std::string& path, std::span<const double> values) {
  std::string header = "{'descr': '";
  header += std::endian::native == std::endian::little ? "<f8" : ">f8";
  header += "', 'fortran_order': False, 'shape': (";
  header += std::to_string(values.size());
  header += ",), }";
  constexpr std::size_t begin = 10, unit = 64;  // values begin at a multiple of 64
  header.append(unit - 1 - (begin + header.size()) % unit, ' ');
  header += '\n';
  std::string head(reinterpret_cast<const char*>(detail::npy_magic), sizeof detail::npy_magic);
  head += '\1';
  head += '\0';
  head += static_cast<char>(header.size() & 255u);
  head += static_cast<char>(header.size() >> 8);
  head += header;
  write_file_in_pieces(path, [&](const auto& put) {
    put(std::string_view(head));
    put(std::string_view(reinterpret_cast<const char*>(values.data()), values.size_bytes()));
  });
}

ZIPML_FUNCTION bool is_npy_file(const std::string& path) {
  return detail::begins_with(path, detail::npy_magic, sizeof detail::npy_magic);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
