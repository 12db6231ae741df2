// Matrices of numpy: versions, orders, types, what is refused; packed from where they lie.

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <zipml/io/npy_table.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "folder.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

/// A file as numpy.save writes it.
template <class T>
std::string npy(const std::string& dictionary, const std::vector<T>& values, int version = 1) {
  std::string out("\x93NUMPY", 6);
  out += static_cast<char>(version);
  out += '\0';
  const std::size_t begin = version == 1 ? 10 : 12;
  std::string header = dictionary;
  while ((begin + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  for (int k = 0; k < (version == 1 ? 2 : 4); ++k) out += static_cast<char>(header.size() >> (8 * k) & 255u);
  out += header;
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  return out;
}

const std::string native4 = std::endian::native == std::endian::little ? "<f4" : ">f4";
const std::string native8 = std::endian::native == std::endian::little ? "<f8" : ">f8";
std::string dictionary(const std::string& type, bool fortran, const std::string& shape) {
  return "{'descr': '" + type + "', 'fortran_order': " + (fortran ? "True" : "False") +
         ", 'shape': " + shape + ", }";
}

}  // namespace

TEST_CASE("matrices of every version, order and type are read where they lie", "[npy]") {
  const Folder folder;
  for (const int version : {1, 2, 3})
    for (const bool fortran : {false, true})
      for (const bool wide : {false, true}) {
        std::vector<double> values;
        for (int k = 0; k < 12; ++k)
          values.push_back(fortran ? k % 4 * 3 + k / 4 : k);  // value of (i, j): 3 i + j
        const std::vector<float> floats(values.begin(), values.end());
        const std::string path =
            folder.write("x.npy", wide ? npy(dictionary(native8, fortran, "(4, 3)"), values, version)
                                       : npy(dictionary(native4, fortran, "(4, 3)"), floats, version));
        const NpyFile file(path);
        REQUIRE((file.rows() == 4 && file.cols() == 3 && file.is_double() == wide));
        const MatrixView part = file.columns(1, 2);
        for (Index i = 0; i < 4; ++i) {
          for (Index j = 0; j < 3; ++j) CHECK(file.matrix()(i, j) == static_cast<float>(3 * i + j));
          CHECK(part(i, 0) == static_cast<float>(3 * i + 1));
          CHECK(file.labels(2).labels[i] == static_cast<float>(3 * i + 2));
        }
        const Dataset data = load(path);
        CHECK((data.rows == 4 && data.cols == 2 && data.labels[3] == 11.0f && data.values[5] == 7.0f));
        const Dataset first = load(path, {.label = "1"});
        CHECK((first.labels[1] == 3.0f && first.values[2] == 4.0f && first.values[3] == 5.0f));
      }
  const std::string vector = folder.write("y.npy", npy<float>(dictionary(native4, false, "(3,)"), {1, 2, 3}));
  CHECK((NpyFile(vector).rows() == 3 && NpyFile(vector).cols() == 1));
  // Keys in another order, other quotes and blanks.
  const std::string other = folder.write(
      "z.npy",
      npy<float>("{\"shape\":(2,1),\"descr\":\"" + native4 + "\",  \"fortran_order\": False}", {1, 2}));
  CHECK(NpyFile(other).rows() == 2);
}

TEST_CASE("a matrix in a file is packed to the bits of one in memory; large doubles keep their differences",
          "[npy]") {
  const Folder folder;
  const Dataset data = synthetic(5, {.rows = 500, .test_rows = 0}).train;
  const std::string x =
      folder.write("x.npy", npy(dictionary(native4, false, "(500, 5)"),
                                std::vector<float>(data.values.begin(), data.values.end())));
  const std::string y = folder.write(
      "y.npy",
      npy(dictionary(native4, false, "(500,)"), std::vector<float>(data.labels.begin(), data.labels.end())));
  const NpyFile samples(x), labels(y);
  const auto store = quantize<4>(samples.matrix(), labels.labels().label_view(), variance_corrected);
  const auto expected = quantize<4>(data);
  CHECK(std::equal(store.codes().begin(), store.codes().end(), expected.codes().begin()));
  std::vector<double> times;
  for (int i = 0; i < 200; ++i) {
    times.push_back(1.7e9 + i);
    times.push_back(1.6e9 + 2.0 * i);
  }
  const Dataset large = load(folder.write("t.npy", npy(dictionary(native8, false, "(200, 2)"), times)));
  CHECK((*large.offsets)[0] + static_cast<double>(large.values[7]) == 1.7e9 + 7);
  CHECK(large.label_offset + static_cast<double>(large.labels[7]) == 1.6e9 + 14);
  const Fit fit = Sgd{}.fit(quantize<8>(large), {.epochs = 100});
  CHECK(rmse(fit.model, large) < 5.0);
}

TEST_CASE("what is no matrix of floats is refused with the reason", "[npy]") {
  const Folder folder;
  const auto refusal = [&](const std::string& bytes) {
    const std::string path = folder.write("bad.npy", bytes);
    const std::string message = message_of([&] { (void)NpyFile(path); });
    CHECK(message.find(path) == 0);
    return message;
  };
  const std::string good = npy<float>(dictionary(native4, false, "(2, 2)"), {1, 2, 3, 4});
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes)
    CHECK_FALSE(refusal(good.substr(0, bytes)).empty());
  CHECK(refusal(good + "x").find("bytes behind its values") != std::string::npos);
  for (const char* type : {"<i4", "|u1", "<f2", "<c8", "|O", "<U3", "", "f4"})
    CHECK(refusal(npy<float>(dictionary(type, false, "(2, 2)"), {1, 2, 3, 4})).find("astype") !=
          std::string::npos);
  CHECK(refusal(npy<float>(dictionary(native4 == "<f4" ? ">f4" : "<f4", false, "(2, 2)"), {1, 2, 3, 4}))
            .find("astype") != std::string::npos);
  CHECK(
      refusal(npy<float>("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }", {1, 2, 3, 4}))
          .find("several fields") != std::string::npos);
  for (const char* shape : {"()", "(1, 2, 2)", "(-1, 4)", "(a,)", "(99999999999999999999,)", "(4", "4",
                            "(4611686018427387904, 4611686018427387904)", "(3, 2)", "(1, 2)"})
    CHECK_FALSE(refusal(npy<float>(dictionary(native4, false, shape), {1, 2, 3, 4})).empty());
  for (const char* text :
       {"{}", "", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': 1, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'more': 1}"})
    CHECK_FALSE(refusal(npy<float>(text, {1, 2, 3, 4})).empty());
  std::string later = good;
  later[6] = 4;
  CHECK(refusal(later).find("another version") != std::string::npos);

  const std::string path = folder.write("x.npy", good);
  CHECK(message_of([&] { load(path, {.label = "3"}); }).find("label column is out of range") !=
        std::string::npos);
  CHECK(message_of([&] { load(path, {.ignore = {"1"}}); }).find("does not apply") != std::string::npos);
  CHECK(message_of([&] { load(path, {.memory_limit = 10}); }).find("too large") != std::string::npos);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(message_of([&] {
                load(folder.write("n.npy", npy<float>(dictionary(native4, false, "(2, 2)"), {1, 2, nan, 4})));
              }).empty());
  CHECK_FALSE(message_of([&] {
                load(folder.write("n.npy", npy<float>(dictionary(native4, false, "(2, 2)"), {1, 2, 3, nan})));
              }).empty());
}

TEST_CASE("a model of a matrix predicts matrices with and without labels", "[npy]") {
  const Folder folder;
  std::vector<float> with, without;
  for (int i = 0; i < 100; ++i) {
    const auto a = static_cast<float>(i % 10), b = static_cast<float>(i % 7);
    with.insert(with.end(), {a, b, 2 * a - b});
    without.insert(without.end(), {a, b});
  }
  const Dataset train = load(folder.write("a.npy", npy(dictionary(native4, false, "(100, 3)"), with)));
  const Fit fit = Sgd{}.fit(quantize<8>(train), {.epochs = 60});
  LoadOptions like{.like = fit.model.schema, .predicting = true};
  const std::string path = folder.write("b.npy", npy(dictionary(native4, false, "(100, 2)"), without));
  const Dataset rows = load(path, like);
  CHECK_FALSE(rows.has_labels);
  CHECK(predict(fit.model, rows)[5] == Approx(5.0).margin(0.3));
  like.predicting = false;
  CHECK(evaluate(fit.model, load(folder / "a.npy", like)).rmse < 0.3);
  CHECK_FALSE(message_of([&] { load(path, like); }).empty());
}

TEST_CASE("files that memory has no room for are read from where they lie; several are one matrix", "[npy]") {
  const Folder folder;
  const Index n = 5000, d = 7;
  std::vector<float> values;
  std::vector<double> wide, fortran;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < d; ++j) {
      wide.push_back(j == 2 ? 1.7e9 + static_cast<double>(i % 1000)
                            : static_cast<double>((i * 7 + j * 13) % 101) / 8.0);
      values.push_back(static_cast<float>((i * 7 + j * 13) % 101) / 8.0f);
    }
  for (Index j = 0; j < d; ++j)
    for (Index i = 0; i < n; ++i) fortran.push_back(wide[static_cast<std::size_t>(i * d + j)]);
  const auto shape = [](Index rows) { return "(" + std::to_string(rows) + ", 7)"; };
  const auto write = [&](const char* name, const auto& all, Index first, Index count) {
    using T = typename std::decay_t<decltype(all)>::value_type;
    const std::vector<T> part(all.begin() + first * d, all.begin() + (first + count) * d);
    return folder.write(name, npy(dictionary(sizeof(T) == 4 ? native4 : native8, false, shape(count)), part));
  };
  const std::string whole = write("whole.npy", wide, 0, n);
  const std::string left = write("left.npy", wide, 0, 1234), right = write("right.npy", wide, 1234, n - 1234);
  const std::string columns = folder.write("columns.npy", npy(dictionary(native8, true, shape(n)), fortran));
  const std::string floats = write("floats.npy", values, 0, n);
  LoadOptions elsewhere;
  elsewhere.keep_in_memory = 0;
  elsewhere.scratch = folder.path();
  for (const char* label : {"", "1", "4"}) {
    LoadOptions options;
    options.label = elsewhere.label = label;
    const Dataset expected = load(whole, options);
    CHECK(expected.offsets != nullptr);
    for (const auto& paths : {List<std::string>{whole}, {left, right}, {columns}}) {
      const Dataset memory = load(paths, options), mapped = load(paths, elsewhere);
      CHECK(memory.in_memory());
      CHECK_FALSE(mapped.in_memory());
      Buffer<float> read(n * (d - 1));
      mapped.features().read(0, 100, read.data());
      mapped.features().read(100, n - 100, read.data() + 100 * (d - 1));
      CHECK(std::equal(expected.values.begin(), expected.values.end(), memory.values.begin()));
      CHECK(std::equal(expected.values.begin(), expected.values.end(), read.begin()));
      CHECK(std::equal(expected.labels.begin(), expected.labels.end(), mapped.labels.begin()));
      CHECK(expected.label_offset == mapped.label_offset);
    }
    const Dataset memory = load(floats, options), mapped = load(floats, elsewhere);
    Buffer<float> read(n * (d - 1));
    mapped.features().read(0, n, read.data());
    CHECK(std::equal(memory.values.begin(), memory.values.end(), read.begin()));
  }
  elsewhere.label.clear();
  // Labels of a file of their own; what is not finite is found when it is packed.
  const std::string labels =
      folder.write("y.npy", npy(dictionary(native4, false, "(5000,)"), std::vector<float>(5000, 2.5f)));
  const Dataset all = load_npy({floats}, elsewhere, labels);
  CHECK(all.cols == d);
  CHECK(all.labels[17] == 2.5f);
  values[3001 * 7 + 2] = std::numeric_limits<float>::quiet_NaN();
  const std::string bad = write("bad.npy", values, 0, n);
  CHECK(holds(message_of([&] { load(bad); }), "row 3002, column 3"));
  const Dataset unread = load(bad, elsewhere);
  CHECK(holds(message_of([&] { quantize<4>(unread); }), "row 3002, column 3"));
  CHECK(holds(message_of([&] { load({whole, folder.write("text.csv", "1,2\n")}); }), "one format"));
  CHECK(holds(message_of([&] { load_npy({floats}, {}, floats); }), "5000 labels"));
  // A file that becomes shorter while it is read is an error.
  const Dataset cut = load(floats, elsewhere);
  std::filesystem::resize_file(floats, 8192);
  CHECK(holds(message_of([&] { quantize<4>(cut); }), "became shorter"));
}

TEST_CASE("vectors are written as numpy writes them", "[npy]") {
  const Folder folder;
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{99'999}}) {
    std::vector<double> values;
    for (std::size_t k = 0; k < n; ++k)
      values.push_back(std::ldexp(static_cast<double>(k) - 7.5, static_cast<int>(k % 60)));
    save_npy(folder / "v.npy", values);
    const std::string bytes = contents(folder / "v.npy");
    CHECK((bytes.size() - 8 * n) % 64 == 0);
    if (std::endian::native == std::endian::little) {
      std::string header =
          "{'descr': '<f8', 'fortran_order': False, 'shape': (" + std::to_string(n) + ",), }";
      CHECK(bytes.substr(10, header.size()) == header);  // as numpy.save has it
    }
    const NpyFile file(folder / "v.npy", false);
    REQUIRE(file.rows() == static_cast<Index>(n));
    CHECK(std::equal(values.begin(), values.end(), file.matrix().doubles));
  }
}
