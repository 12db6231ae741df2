// Packed samples in a file: what comes back, and what is refused: every truncation, every bit that is flipped, headers that
// lie with right checksums, files that shrink while they are in use.

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "folder.hpp"
#include "message.hpp"
#include "packed_checksums.hpp"

using namespace zipml;

namespace {

Dataset table(Index rows = 300, Index cols = 7) {
  Dataset data = synthetic(cols, {.rows = rows, .test_rows = 0, .seed = 5}).train;
  auto schema = std::make_shared<Schema>();
  schema->cols = cols;
  for (Index j = 0; j < cols; ++j)
    schema->names.push_back("column \"" + std::to_string(j) + "\", of a table");
  schema->label_name = "y";
  data.schema = schema;
  return data;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

bool same(std::span<const double> a, std::span<const double> b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
}

}  // namespace

TEST_CASE("CRC-32C is that of the standard, in pieces too") {
  CHECK(crc32c("123456789", 9) == 0xE3069283u);
  std::string zeros(32, '\0');
  CHECK(crc32c(zeros.data(), 32) == 0x8A9136AAu);  // RFC 3720, B.4
  CHECK(crc32c(nullptr, 0) == 0u);
  std::string text;
  for (int k = 0; k < 1000; ++k) text += static_cast<char>(k * 7);
  for (const std::size_t cut : {0u, 1u, 7u, 8u, 501u})
    CHECK(crc32c(text.data() + cut, text.size() - cut, crc32c(text.data(), cut)) ==
          crc32c(text.data(), text.size()));
  for (std::size_t bytes = 0; bytes < 40; ++bytes)
    CHECK(~detail::crc32c_by_tables(reinterpret_cast<const unsigned char*>(text.data()), bytes, ~0u) ==
          crc32c(text.data(), bytes));
}

TEST_CASE("a store comes back from a file with all that it had, and trains to the same bits") {
  const Folder folder;
  const std::string path = folder / "a.zipml";
  Dataset data = table(1'000);
  for (const char* text :
       {"variance-corrected:4,outliers=0.003", "variance-corrected:2,optimal,outliers=0.01", "full:32",
        "naive:1", "naive:3,lloyd-max", "naive:2,optimal-shared,outliers=0.02", "naive:5,nearest",
        "double-sampling:1", "double-sampling:3,outliers=0.003", "symmetrized:6,optimal", "sum-code:4",
        "sum-code-4:3,optimal", "sum-code-8:5"}) {
    INFO(text);
    for (const bool weighted : {false, true}) {
      data.weights = Buffer<float>(weighted ? data.rows : 0);
      for (Index i = 0; i < data.weights.size(); ++i) data.weights[i] = static_cast<float>(i % 3);
      const Representation representation = parse_representation(text);
      const AnyStore store = quantize(data, representation, {.seed = 77});
      save_store(path, store);
      for (const bool map : {true, false}) {
        const AnyStore opened = open_store(path, {.map = map});
        CHECK(to_string(opened.representation()) == to_string(representation));
        CHECK(opened.seed() == 77);
        const SampleView a = store.samples(), b = opened.samples();
        CHECK((a.rows == b.rows && a.cols == b.cols && a.stored_bits == b.stored_bits &&
               a.codes_bytes == b.codes_bytes && a.store_bytes == b.store_bytes));
        CHECK(opened.standardization().schema->names == data.schema->names);
        CHECK(opened.standardization().schema->label_name == "y");
        CHECK(same(store.standardization().mean.span(), opened.standardization().mean.span()));
        CHECK(same(store.standardization().scale.span(), opened.standardization().scale.span()));
        for (Index i = 0; i < 20; ++i) CHECK(store.header().row_id(i) == opened.header().row_id(i));
        visit_estimator(representation.estimator, [&](auto estimator) {
          const FitOptions how{.epochs = 3, .model = {a.has_integer_path() ? 8 : 32}};
          const Fit x = Sgd{}.fit(store, estimator, how), y = Sgd{}.fit(opened, estimator, how);
          CHECK(same(x.weights.span(), y.weights.span()));
          CHECK((x.intercept == y.intercept && x.quantized_loss == y.quantized_loss &&
                 x.pilot_rows == y.pilot_rows));
          CHECK(same(x.model.weights.span(), y.model.weights.span()));
          CHECK(x.model.intercept == y.model.intercept);
        });
      }
    }
  }
  // A copy of an open file stands for itself.
  data.weights = Buffer<float>(data.rows);
  for (Index i = 0; i < data.rows; ++i) data.weights[i] = static_cast<float>(i % 3);
  save_store(path, quantize(data, parse_representation("naive:4")));
  auto original = std::make_unique<PackedFile>(path);
  const PackedFile copy = *original;
  CHECK(copy.samples().weights == copy.weights().data());
  const Fit weighted = Sgd{}.fit(*original, naive, {.epochs = 2});
  original.reset();
  CHECK(same(weighted.weights.span(), Sgd{}.fit(copy, naive, {.epochs = 2}).weights.span()));
  // Rows that are scaled, and columns that have lost an offset.
  Eigen::MatrixXd large(100, 2);
  Eigen::VectorXd labels(100);
  for (int i = 0; i < 100; ++i) {
    large(i, 0) = 1.7e9 + i;
    large(i, 1) = i % 7;
    labels(i) = 1.6e9 + 3 * i;
  }
  const auto rows = quantize<8>(large, labels, variance_corrected, {.scaling = Scaling::row_range});
  save_packed(path, rows.samples(), rows, "variance-corrected:8");
  const AnyStore opened = open_store(path);
  const Fit x = Sgd{}.fit(rows), y = Sgd{}.fit(opened, variance_corrected);
  CHECK(same(x.model.weights.span(), y.model.weights.span()));
  CHECK(x.model.intercept == y.model.intercept);
  CHECK(rmse(y.model, large, labels) < 10.0);
}

TEST_CASE("writing a store twice gives the same bytes, and what is written is what the format says") {
  const Folder folder;
  const AnyStore store = quantize(table(), parse_representation("variance-corrected:3,outliers=0.01"));
  save_store(folder / "a", store);
  save_store(folder / "b", open_store(folder / "a"));
  const std::string bytes = read(folder / "a");
  CHECK(bytes == read(folder / "b"));
  CHECK(bytes.substr(0, 8) == "\x89ZIPML\r\n");
  CHECK(bytes[8] == 1);
  CHECK(bytes[24] == 44);  // 300 rows
  CHECK(bytes[25] == 1);
  CHECK(bytes[32] == 7);
  CHECK((bytes[48] == 3 && bytes[49] == 1 && bytes[50] == 3));
  CHECK(bytes.size() % 64 == 0);
  const PackedFile file(folder / "a");
  CHECK(file.file_bytes() == static_cast<Index>(bytes.size()));
  for (const FileSection& section : file.sections()) CHECK(section.offset % 64 == 0);
}

TEST_CASE("every truncation and every flipped bit is an error that names the file") {
  const Folder folder;
  const std::string path = folder / "damaged.zipml";
  save_store(path, quantize(table(90, 3), parse_representation("variance-corrected:3,outliers=0.05"),
                            {.pilot = 32}));
  const std::string good = read(path);
  const auto refused = [&](const std::string& bytes) {
    write(path, bytes);
    try {
      (void)open_store(path);
    } catch (const Error& error) {
      return std::string(error.what()).find(path) == 0;
    }
    return false;
  };
  std::size_t silent = 0;
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes) silent += refused(good.substr(0, bytes)) ? 0 : 1;
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    silent += refused(bad) ? 0 : 1;
  }
  for (const char* more : {"x", "\0"}) silent += refused(good + std::string(more, 1)) ? 0 : 1;
  silent += refused(good + good) ? 0 : 1;
  CHECK(silent == 0);
  write(path, good);
  CHECK_NOTHROW(open_store(path));
  WARN("tried " << good.size() << " truncations and " << 8 * good.size() << " flipped bits");
  // Without verification of the codes a damaged one is found on request.
  std::string bad = good;
  const PackedFile file(path);
  for (const FileSection& section : file.sections())
    if (std::string(file.name_of(section)) == "codes")
      bad[section.offset] = static_cast<char>(bad[section.offset] ^ 1);
  write(folder / "codes", bad);
  const PackedFile lazy(folder / "codes", {.verify = false});
  CHECK(message_of([&] { lazy.verify(); }).find("damaged in its codes") != std::string::npos);
}

TEST_CASE("of several processes that open a file one finds what is damaged") {
  const Folder folder;
  const std::string path = folder / "large.zipml";
  save_store(path, quantize(table(110'000, 20), parse_representation("naive:8")));
  std::string bytes = read(path);
  const PackedFile file(path);
  for (const FileSection& section : file.sections())
    if (std::string(file.name_of(section)) == "codes") {
      REQUIRE(section.bytes > 2u << 20);  // three chunks
      bytes[section.offset + (1u << 20) + 5] ^= 4;
    }
  const std::string damaged = folder / "damaged.zipml";
  write(damaged, bytes);
  for (const int verifiers : {1, 2, 3}) {
    int found = 0;
    for (int verifier = 0; verifier < verifiers; ++verifier) {
      CHECK_NOTHROW(PackedFile(path, {.verifier = verifier, .verifiers = verifiers}));
      const std::string said =
          message_of([&] { PackedFile(damaged, {.verifier = verifier, .verifiers = verifiers}); });
      found += said.find("damaged in its codes") != std::string::npos ? 1 : 0;
    }
    CHECK(found == 1);
  }
  CHECK_THROWS_AS(PackedFile(path, {.verifier = 2, .verifiers = 2}), Error);
}

TEST_CASE("files that lie with right checksums are refused before anything is allocated for them") {
  const Folder folder;
  const std::string path = folder / "hostile.zipml";
  save_store(path, quantize(table(90, 3), parse_representation("variance-corrected:3,outliers=0.05"),
                            {.pilot = 32}));
  const std::string good = read(path);
  const PackedFile file(path);
  const auto section = [&](const std::string& name) {
    for (const FileSection& one : file.sections())
      if (file.name_of(one) == name) return static_cast<std::size_t>(one.offset);
    throw Error("no section", name, "none");
  };
  const auto changed = [&](std::size_t at, const std::string& with) {
    std::string bytes = good;
    bytes.replace(at, with.size(), with);
    put_checksums(bytes);
    write(path, bytes);
    return message_of([&] { (void)open_store(path); });
  };
  const auto f32 = [](float v) { return std::string(reinterpret_cast<const char*>(&v), 4); };
  const auto f64 = [](double v) { return std::string(reinterpret_cast<const char*>(&v), 8); };
  const auto u64 = [](std::uint64_t v) { return std::string(reinterpret_cast<const char*>(&v), 8); };
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  CHECK(changed(0, good.substr(0, 8)).empty());  // checksums are put right
  CHECK(changed(8, std::string(1, '\2')).find("another version: expected 1, got 2") != std::string::npos);
  CHECK(changed(24, u64(std::uint64_t{1} << 63)).find("rows is out of range") != std::string::npos);
  CHECK(changed(24, u64(0)).find("rows is out of range") != std::string::npos);
  CHECK_FALSE(changed(24, u64(91)).empty());
  CHECK_FALSE(changed(24, u64(std::uint64_t{1} << 40)).empty());
  CHECK_FALSE(changed(32, u64(~std::uint64_t{0})).empty());
  CHECK_FALSE(changed(32, u64(std::uint64_t{1} << 31)).empty());
  CHECK_FALSE(changed(32, u64(0)).empty());
  for (const int bits : {0, 1, 2, 4, 8, 9, 31, 32, 255})
    CHECK_FALSE(changed(48, std::string(1, static_cast<char>(bits))).empty());
  for (const int draws : {0, 2, 9, 255})
    CHECK_FALSE(changed(49, std::string(1, static_cast<char>(draws))).empty());
  for (const int bits : {0, 2, 4, 255})
    CHECK_FALSE(changed(50, std::string(1, static_cast<char>(bits))).empty());
  CHECK(changed(60, std::string(1, '\1')).find("later version") != std::string::npos);
  for (const float bad : {nan, infinity, -infinity}) {
    CHECK(changed(section("labels"), f32(bad)).find("labels is out of range") != std::string::npos);
    CHECK_FALSE(changed(section("level offsets"), f32(bad)).empty());
    CHECK_FALSE(changed(section("level steps"), f32(bad)).empty());
    CHECK_FALSE(changed(section("bias terms"), f32(bad)).empty());
    CHECK_FALSE(changed(section("outlier corrections"), f32(bad)).empty());
    CHECK_FALSE(changed(section("standardisation"), f64(static_cast<double>(bad))).empty());
    CHECK_FALSE(changed(section("pilot") + 16, f64(static_cast<double>(bad))).empty());
    CHECK_FALSE(changed(section("label statistics") + 16, f64(static_cast<double>(bad))).empty());
  }
  CHECK_FALSE(changed(section("level steps"), f32(-1.0f)).empty());
  CHECK(changed(section("standardisation") + 24, f64(0.0)).find("scale of a column") != std::string::npos);
  CHECK_FALSE(changed(section("label statistics"), f64(-99.0)).empty());
  CHECK(changed(section("outlier gaps"), "\xFF\xFF").find("outside of its block") != std::string::npos);
  CHECK_FALSE(changed(section("outlier blocks"), u64(1)).empty());
  CHECK_FALSE(changed(section("outlier blocks") + 8, u64(~std::uint64_t{0})).empty());
  CHECK_FALSE(changed(section("pilot"), f64(1e300)).empty());
  CHECK(changed(section("about") + 4, "X").find("hostile.zipml") != std::string::npos);
  // Sections that lie elsewhere, overlap, are too long, of another kind or width.
  for (std::size_t k = 0; k < file.sections().size(); ++k)
    for (const std::size_t field : {0u, 4u, 8u, 16u, 24u, 28u})
      for (const std::uint64_t value :
           {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{0xFFFFFFFF}, ~std::uint64_t{0}}) {
        const std::size_t width = field == 8 || field == 16 ? 8 : 4;
        const std::size_t at = 64 + 32 * k + field;
        if (good.substr(at, width) == u64(value).substr(0, width)) continue;
        std::string bytes = good;
        bytes.replace(at, width, u64(value).substr(0, width));
        const std::size_t end = 64 + 32 * file.sections().size();
        const std::uint32_t crc = crc32c(bytes.data(), end);
        bytes.replace(end, 4, std::string(reinterpret_cast<const char*>(&crc), 4));
        write(path, bytes);
        const std::string message = message_of([&] { (void)open_store(path); });
        // A flag that allows to pass over a section changes nothing for a reader that knows it.
        if (field != 4 || value > 1) CHECK_FALSE(message.empty());
      }
  // Names of other samples, and representations that are none or another.
  for (const char* text :
       {"variance-corrected:4", "double-sampling:3", "naive:3", "full:32", "nonsense", ""}) {
    const AnyStore store = quantize(table(90, 3), parse_representation("variance-corrected:3"), {});
    save_packed(path, store.samples(), store.header(), text);
    CHECK(message_of([&] { (void)open_store(path); }).find("do not go together") != std::string::npos);
  }
}

namespace {

struct Golden {
  const char* file;
  const char* representation;
  std::uint64_t weights;  // of a fit, see hash_of
};
/// Written by the first version that wrote such files; never to be written again.
constexpr Golden golden_files[] = {
    {"corrected.zipml", "variance-corrected:3,outliers=0.02", 0x7cbf7b0f587877abu},
    {"double.zipml", "double-sampling:2", 0xb5ee4a5f9cb6071eu},
    {"sum.zipml", "sum-code:4,outliers=0.01", 0x4a456f5c7844bbdbu},
    {"table.zipml", "naive:2,lloyd-max,nearest", 0xcb298471f51362fau},
    {"full.zipml", "full", 0xb473fde26f3a261u},
};

/// Of integers alone, so that it needs no libm and is the same on every machine.
Dataset golden_table() {
  Dataset data;
  data.rows = 70;
  data.cols = 5;
  data.values = Buffer<float>(data.rows * data.cols);
  data.labels = Buffer<float>(data.rows);
  for (Index i = 0; i < data.rows; ++i)
    for (Index j = 0; j < data.cols; ++j) {
      const auto v =
          static_cast<float>((i * (2 * j + 3) + j * j * 11) % 64) * (j == 2 && i % 20 == 3 ? 8.0f : 1.0f);
      data.values[i * data.cols + j] = v;
      data.labels[i] += v * static_cast<float>(j - 2);
    }
  LineReader reader = LineReader::from_memory("a,\"b, c\",d,e,f,y\n1,2,3,4,5,6\n", "golden");
  data.schema = load(reader).schema;
  return data;
}

std::uint64_t hash_of(const AnyStore& store) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  visit_estimator(store.representation().estimator, [&](auto estimator) {
    const bool integers = store.samples().has_integer_path();
    const Fit fit = Sgd{SquaredLoss{}, NoRegularizer{}, ConstantStep{0.01f}}.fit(
        store, estimator,
        {.epochs = 3, .batch = 16, .model = {integers ? 8 : 32}, .pilot = false, .isa = "scalar"});
    for (const double w : fit.weights) {
      std::uint64_t bits;
      std::memcpy(&bits, &w, sizeof bits);
      for (int k = 0; k < 8; ++k) hash = (hash ^ (bits >> (8 * k) & 255u)) * 0x100000001b3u;
    }
  });
  return hash;
}

}  // namespace

TEST_CASE("files of version 1 are read for ever: golden files") {
  const auto folder = std::filesystem::path(__FILE__).parent_path() / "packed";
  for (const Golden& golden : golden_files) {
    INFO(golden.file);
    const std::string path = (folder / golden.file).string();
    const AnyStore store = open_store(path);
    CHECK(to_string(store.representation()) == golden.representation);
    CHECK(store.rows() == 70);
    CHECK(store.standardization().schema->names[1] == "b, c");
    CHECK(store.standardization().schema->label_name == "y");
    CHECK(hash_of(store) == golden.weights);
    // What is packed today has the same codes.
    const AnyStore today =
        quantize(golden_table(), parse_representation(golden.representation), {.pilot = 40});
    CHECK(hash_of(today) == golden.weights);
    CHECK(std::equal(today.samples().codes,
                     today.samples().codes + (today.samples().is_dense() ? 0 : today.samples().codes_bytes),
                     store.samples().codes));
  }
}

TEST_CASE("the pilot of a loss is read for ever, and made of the same bits everywhere: a golden file") {
  Dataset data = golden_table();
  for (Index i = 0; i < data.rows; ++i) data.labels[i] = data.labels[i] > 0.0f && i % 11 != 5 ? 1.0f : -1.0f;
  const char* const representation = "naive:3,lloyd-max,nearest,outliers=0.02";
  const AnyStore today = quantize(data, parse_representation(representation),
                                  {.pilot = 60, .pilot_loss = pilot_loss_of(LogisticLoss{})});
  const auto path = std::filesystem::path(__FILE__).parent_path() / "packed" / "logistic.zipml";
  // ZIPML_WRITE_GOLDEN=1 writes the file, for a format of another version.
  if (std::getenv("ZIPML_WRITE_GOLDEN") != nullptr) save_store(path.string(), today);
  const AnyStore store = open_store(path.string());
  CHECK(to_string(store.representation()) == representation);
  const SampleView then = store.samples(), now = today.samples();
  REQUIRE((then.pilot != nullptr && now.pilot != nullptr));
  CHECK(then.pilot->loss == loss_fingerprint(LogisticLoss{}));
  CHECK(then.pilot->rows == 60);
  CHECK(then.pilot->squares == now.pilot->squares);
  CHECK(then.pilot->intercept == now.pilot->intercept);
  for (Index j = 0; j < data.cols; ++j) CHECK(then.pilot->weights[j] == now.pilot->weights[j]);
  for (Index j = 0; j <= data.cols; ++j) CHECK(then.pilot->gradient[j] == now.pilot->gradient[j]);
  CHECK(std::equal(now.codes, now.codes + now.codes_bytes, then.codes));
  const auto fit_of = [](const AnyStore& samples) {
    return Sgd{LogisticLoss{}, L2{1e-2f}}.fit(samples, naive, {.epochs = 5, .isa = "scalar"});
  };
  const Fit one = fit_of(store), other = fit_of(today);
  CHECK(one.pilot_rows == 60);
  for (Index j = 0; j < data.cols; ++j) CHECK(one.weights[j] == other.weights[j]);
}

TEST_CASE("what is no packed file is said to be none") {
  const Folder folder;
  write(folder / "text", "1,2,3\n4,5,6\n");
  write(folder / "empty", "");
  CHECK(message_of([&] { (void)open_store(folder / "text"); }).find("is no packed file") !=
        std::string::npos);
  CHECK(message_of([&] { (void)open_store(folder / "empty"); }).find("is no packed file") !=
        std::string::npos);
  CHECK(message_of([&] { (void)open_store(folder / "missing"); }).find("cannot open") != std::string::npos);
  CHECK(message_of([&] { (void)open_store(folder.path()); }).find("no regular file") != std::string::npos);
}

TEST_CASE("files changed at random, with right checksums, are refused or trained on, and nothing else") {
  // ZIPML_FILE_MUTANTS says how many of each representation; under sanitizers that is the test of memory.
  const char* const asked = std::getenv("ZIPML_FILE_MUTANTS");
  const int count = asked != nullptr ? std::atoi(asked) : 60;
  const Folder folder;
  const std::string path = folder / "mutant.zipml";
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
  int refused = 0, trained = 0;
  for (const char* text : {"variance-corrected:3,outliers=0.05", "double-sampling:2",
                           "sum-code:4,outliers=0.03", "naive:2,lloyd-max,nearest",
                           "naive:3,optimal-shared,outliers=0.05", "full:32", "sum-code-4:2,optimal"}) {
    save_store(path, quantize(table(70, 5), parse_representation(text), {.pilot = 30}));
    const std::string good = read(path);
    for (int mutant = 0; mutant < count; ++mutant) {
      std::string bytes = good;
      for (std::size_t change = 0; change <= below(4); ++change) {
        const std::size_t at = below(3) == 0 ? below(64 + 32 * 14) : below(bytes.size() - 8);
        const std::size_t what = below(5);
        const float large = below(2) == 0 ? 1e38f : -1e30f;
        if (what == 0) bytes[at] = static_cast<char>(random());
        if (what == 1) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        if (what == 2) bytes[at] = '\xFF';
        if (what == 3) bytes.replace(at, 8, 8, '\xFF');
        if (what == 4) std::memcpy(&bytes[at], &large, sizeof large);
      }
      put_checksums(bytes);
      write(path, bytes);
      try {
        const AnyStore store = open_store(path, {.map = mutant % 2 == 0});
        visit_estimator(store.representation().estimator, [&](auto estimator) {
          const bool integers = store.samples().has_integer_path() && mutant % 4 != 0;
          (void)Sgd{}.fit(store, estimator,
                          {.epochs = 2,
                           .batch = mutant % 3 != 0 ? 16 : 1,
                           .model = {integers ? 8 : 32},
                           .isa = mutant % 5 != 0 ? "" : "scalar"});
        });
        ++trained;
      } catch (const Error& error) {
        ++refused;
      }
    }
  }
  CHECK(refused + trained == 7 * count);
  CHECK(refused > 4 * count);
  WARN("changed at random: " << refused << " refused, " << trained << " trained on");
}

TEST_CASE("a file that shrinks while it is in use is an error, and the next file is read as ever") {
  const Folder folder;
  const std::string path = folder / "shrinks.zipml";
  save_store(path, quantize(table(60'000, 40), parse_representation("variance-corrected:4")));
  const std::string good = read(path);
  const AnyStore store = open_store(path);
  const Fit before = Sgd{}.fit(store, variance_corrected, {.epochs = 1});
  std::filesystem::resize_file(path, good.size() / 2);
  CHECK(message_of([&] {
          (void)Sgd{}.fit(store, variance_corrected, {.epochs = 1});
        }).find("became shorter") != std::string::npos);
  CHECK_FALSE(message_of([&] { (void)Sgd{}.fit(store, variance_corrected, {.epochs = 1}); }).empty());
  write(folder / "again", good);
  const Fit again = Sgd{}.fit(open_store(folder / "again"), variance_corrected, {.epochs = 1});
  CHECK(same(before.weights.span(), again.weights.span()));
  // Read into memory it belongs to the process.
  const AnyStore held = open_store(folder / "again", {.map = false});
  std::filesystem::resize_file(folder / "again", 10);
  const Fit fit = Sgd{}.fit(held, variance_corrected, {.epochs = 1});
  CHECK(same(before.weights.span(), fit.weights.span()));
}

TEST_CASE("a disk that is full, at any byte, leaves the old file and nothing beside it") {
  const Folder folder;
  const std::string path = folder / "samples.zipml";
  const AnyStore store = quantize(table(), parse_representation("variance-corrected:4,outliers=0.01"));
  save_store(path, quantize(table(50), parse_representation("naive:1")));
  const std::string old = read(path);
  const std::string whole = folder / "whole.zipml";
  save_store(whole, store);
  const std::size_t size = read(whole).size();
  std::filesystem::remove(whole);
  rlimit before;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto signal = std::signal(SIGXFSZ, SIG_IGN);
  int tried = 0, refused = 0, intact = 0;
  for (std::size_t bytes = 0; bytes < size; bytes += bytes + 7 < size ? 7 : 1) {
    const rlimit small{bytes, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    const std::string message = message_of([&] { save_store(path, store); });
    setrlimit(RLIMIT_FSIZE, &before);
    ++tried;
    refused += holds(message, path) ? 1 : 0;
    intact += read(path) == old && std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1
                  ? 1
                  : 0;
  }
  std::signal(SIGXFSZ, signal);
  CHECK(refused == tried);
  CHECK(intact == tried);
  WARN("the disk was full after " << tried << " different numbers of bytes");
  save_store(path, store);
  CHECK(read(path).size() == size);
}

TEST_CASE("a writer that is killed leaves the old file or the new one") {
  const Folder folder;
  const std::string path = folder / "killed.zipml";
  const AnyStore first = quantize(table(20'000, 30), parse_representation("naive:4"), {.seed = 1});
  const AnyStore second = quantize(table(20'000, 30), parse_representation("naive:4"), {.seed = 2});
  save_store(path, first);
  int loaded = 0, replaced = 0;
  for (int round = 0; round < 200; ++round) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      for (;;) save_store(path, second);
    }
    usleep(static_cast<useconds_t>(50 + 37 * round));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const AnyStore store = open_store(path);
    ++loaded;
    replaced += store.seed() == 2 ? 1 : 0;
  }
  CHECK(loaded == 200);
  WARN("200 kills: the new file was there after " << replaced);
}
