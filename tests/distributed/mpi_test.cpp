// Several processes, each of which runs these tests: `mpirun -np 3 mpi_test`. What one of them expects all expect, so that every
// exchange has its partners; an exchange without any ends by the time-out.

#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>
#include <zipml/analysis/code_gram.hpp>
#include <zipml/distributed/mpi_reducer.hpp>
#include <zipml/distributed/together.hpp>
#include <zipml/training/refine_models.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"
#include "training/same_bits.hpp"

using namespace zipml;

namespace {

const MpiOptions patient{.timeout = 120.0};

/// MPI from the first test to the end of the program.
MPI_Comm everybody() {
  static const MpiSession session(nullptr, nullptr);
  return MPI_COMM_WORLD;
}

/// Code j of a worker: any of -levels to levels.
std::int8_t code_of(int bits, int rank, Index j) {
  const int levels = symmetric_levels(bits);
  const std::uint32_t word =
      Random(17).word(Stream::generated, static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(j), 3);
  if (bits == 1) return word % 2 == 0 ? std::int8_t{-1} : std::int8_t{1};
  return static_cast<std::int8_t>(static_cast<int>(word % static_cast<std::uint32_t>(2 * levels + 1)) -
                                  levels);
}

const Dataset& small_skewed() {
  static const Dataset train = skewed({.rows = 4'000, .test_rows = 0}).train;
  return train;
}

}  // namespace

TEST_CASE("integers of few bits come back from their bytes") {
  (void)everybody();
  for (int bits = 1; bits <= 8; ++bits)
    for (const int workers : {1, 2, 3, 8, 1024})
      for (const Index n : {0, 1, 7, 8, 9, 40, 1001}) {
        INFO(bits << " bits, " << workers << " workers, " << n << " integers");
        const int most = workers * symmetric_levels(bits), step = bits == 1 ? 2 : 1;
        std::vector<std::int32_t> sums;
        for (Index j = 0; j < n; ++j)
          sums.push_back(-most + step * static_cast<int>(7919 * j % (2 * most / step + 1)));
        if (n > 1) sums.back() = most;
        const Wire wire = wire_of_sums(bits, workers);
        std::vector<std::uint8_t> bytes(static_cast<std::size_t>(wire.bytes(n)) + 1, 0xA5);
        write_wire(wire, std::span<const std::int32_t>(sums), bytes.data());
        CHECK(bytes.back() == 0xA5);
        std::vector<std::int32_t> back(sums.size());
        read_wire(wire, bytes.data(), n,
                  [&](Index j, int value) { back[static_cast<std::size_t>(j)] = value; });
        CHECK(back == sums);
      }
  CHECK(wire_of_codes(1).bits == 1);
  CHECK(wire_of_codes(4).bits == 4);
  CHECK(wire_of_sums(4, 2).bits == 5);  // -14 to 14
  CHECK(wire_of_sums(1, 4).bits == 3);  // -4, -2, 0, 2, 4
}

TEST_CASE("a reducer finds the largest, and adds in the order of the ranks") {
  MpiReducer reducer(everybody(), patient);
  const int workers = reducer.workers(), rank = reducer.rank();
  float mine[3] = {static_cast<float>(rank), -static_cast<float>(rank), rank == workers - 1 ? NAN : 1.0f};
  reducer.largest(std::span<float>(mine));
  CHECK(mine[0] == static_cast<float>(workers - 1));
  CHECK(mine[1] == 0.0f);
  CHECK(mine[2] == std::numeric_limits<float>::infinity());
  CHECK(reducer.Collective::largest(2.0f) == 2.0f);

  for (const Index n : {1, 5, 1025, 20'000}) {  // the last in parts
    INFO(n << " entries");
    const auto value = [](int of, Index j) {
      return std::ldexp(1.0f + static_cast<float>(j % 97) / 128.0f,
                        (of * 11 + static_cast<int>(j)) % 40 - 20);
    };
    std::vector<float> floats, expected;
    std::vector<double> doubles;
    std::vector<std::int32_t> integers;
    for (Index j = 0; j < n; ++j) {
      floats.push_back(value(rank, j));
      doubles.push_back(static_cast<double>(value(rank, j)) / 3.0);
      integers.push_back(static_cast<std::int32_t>(j) - rank);
      float sum = value(0, j);
      for (int r = 1; r < workers; ++r) sum += value(r, j);
      expected.push_back(sum);
    }
    reducer.sum(std::span<float>(floats));
    CHECK(floats == expected);
    reducer.sum(std::span<double>(doubles));
    double sum = static_cast<double>(value(0, n - 1)) / 3.0;
    for (int r = 1; r < workers; ++r) sum += static_cast<double>(value(r, n - 1)) / 3.0;
    CHECK(doubles.back() == sum);
    reducer.sum(std::span<std::int32_t>(integers));
    CHECK(integers.back() == workers * static_cast<int>(n - 1) - workers * (workers - 1) / 2);
  }
}

TEST_CASE("codes of every width are added up either way, in the bytes that the formula says") {
  for (const CodeExchange how :
       {CodeExchange::gather, CodeExchange::reduce_scatter, CodeExchange::automatic}) {
    MpiReducer reducer(everybody(), {.timeout = 120.0, .codes = how});
    const int workers = reducer.workers();
    for (int bits = 1; bits <= 8; ++bits)
      for (const Index d : {1, 7, 48, 1000, 4104}) {
        INFO(bits << " bits, " << d << " entries, way " << static_cast<int>(how));
        std::vector<std::int8_t> codes;
        std::vector<std::int32_t> expected, total(static_cast<std::size_t>(d), 99);
        for (Index j = 0; j < d; ++j) {
          codes.push_back(code_of(bits, reducer.rank(), j));
          int sum = 0;
          for (int r = 0; r < workers; ++r) sum += code_of(bits, r, j);
          expected.push_back(sum);
        }
        const double before = reducer.exchanged().bytes;
        reducer.sum_codes(codes, bits, total);
        CHECK(total == expected);
        const double sent = reducer.exchanged().bytes - before;
        const double says = bytes_to_add_codes(d, bits, workers, how);
        if (how == CodeExchange::gather)
          CHECK(sent == (workers - 1) * std::ceil(static_cast<double>(d * bits) / 8.0));
        // Parts are whole groups of eight entries.
        CHECK(std::fabs(sent - says) <= workers * (bits + wire_of_sums(bits, workers).bits));
        if (d % (8 * workers) == 0) CHECK(sent == says);
      }
  }
}

TEST_CASE("messages arrive as they were sent, each in its own way") {
  MpiReducer reducer(everybody(), patient);
  const auto message_of = [](int rank) {
    Message message;
    message.scales = Buffer<float>(2);
    message.scales[0] = 0.5f + static_cast<float>(rank);
    if (rank % 3 == 2) {  // as it is
      message.values = Buffer<float>(16);
      message.values[3] = static_cast<float>(rank);
      return message;
    }
    message.codes = Buffer<std::int8_t>(16);
    for (Index j = 0; j < 16; ++j)
      message.codes[j] = static_cast<std::int8_t>(rank % 3 == 1 ? j % 8 : j - 100);
    if (rank % 3 == 1) {  // 3 bits
      message.table = Buffer<float>(8);
      for (Index k = 0; k < 8; ++k) message.table[k] = static_cast<float>(k);
    }
    return message;
  };
  const List<Message> all = reducer.gather(message_of(reducer.rank()));
  REQUIRE(static_cast<int>(all.size()) == reducer.workers());
  const auto same = [](const auto& a, const auto& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
  };
  for (int r = 0; r < reducer.workers(); ++r) {
    const Message &here = all[static_cast<std::size_t>(r)], there = message_of(r);
    CHECK(here.rounded() == there.rounded());
    CHECK(same(here.codes, there.codes));
    CHECK(same(here.scales, there.scales));
    CHECK(same(here.table, there.table));
    CHECK(same(here.values, there.values));
  }
}

TEST_CASE("any number of processes trains the bits of one, with any number of threads") {
  MpiReducer reducer(everybody(), patient);
  const Dataset& train = small_skewed();
  const auto check = [&](const auto& store, FitOptions options) {
    INFO(options.batch << " rows, " << store.stored_bits() << " bits, " << options.threads << " threads");
    const Fit one = Sgd{}.fit(store, options);
    options.reducer = &reducer;
    const Fit fit = Sgd{}.fit(store, options);
    CHECK(same_bits(fit, one));
    CHECK(fit.quantized_loss == one.quantized_loss);
    CHECK(fit.status == one.status);
  };
  for (const Index batch : {64, 1000}) {
    check(quantize<2>(train, variance_corrected, {.outliers = 0.003}),
          {.epochs = 2, .batch = batch, .model = {8}});
    check(quantize<4>(train, symmetrized), {.epochs = 2, .batch = batch, .model = {4}, .threads = 2});
  }

  Dataset classes = train;
  for (Index i = 0; i < classes.rows; ++i) classes.labels[i] = static_cast<float>(i % 3);
  const auto store = quantize<4>(classes, naive);
  const Sgd logistic{LogisticLoss{}};
  const ClassesFit one = fit_classes(logistic, store, naive, {.epochs = 2, .model = {8}});
  const ClassesFit all =
      fit_classes(logistic, store, naive, {.epochs = 2, .model = {8}, .reducer = &reducer});
  for (std::size_t k = 0; k < 3; ++k) CHECK(same_bits(all.fits[k], one.fits[k]));
}

TEST_CASE("any number of processes makes the Gram matrix of one") {
  MpiReducer reducer(everybody(), patient);
  const auto kernels = kernels_for<AnyCode, kernel_families::gram>(active_isa());
  const auto check = [&](const auto& store, int threads) {
    const CodeGram one = code_gram(kernels, store.samples(), 0);
    // A process may have another number of threads.
    const CodeGram all = code_gram(kernels, store.samples(), 0, threads, &reducer);
    CHECK(std::equal(one.products.begin(), one.products.end(), all.products.begin()));
    CHECK(std::equal(one.sums.begin(), one.sums.end(), all.sums.begin()));
    return (one.moments - all.moments).cwiseAbs().maxCoeff();
  };
  CHECK(check(quantize<2>(small_skewed(), naive), 1 + reducer.rank() % 2) == 0.0);
  CHECK(check(quantize<5>(small_skewed(), naive), 1) == 0.0);
  // Outliers are added up in floats.
  CHECK(check(quantize<2>(small_skewed(), naive, {.outliers = 0.003}), 1) < 1e-7);
}

TEST_CASE("processes refine together, one model and several") {
  MpiReducer reducer(everybody(), patient);
  const Dataset& train = small_skewed();
  const auto same = [](const Refined& a, const Refined& b) {
    return std::equal(a.weights.begin(), a.weights.end(), b.weights.begin()) && a.intercept == b.intercept;
  };
  const auto store = quantize<3>(train, naive);
  const Objective objective(train, SquaredLoss{}, L2{1e-4f});
  const Refined one = refine(store, naive, objective);
  const Refined all = refine(store, naive, objective, {.reducer = &reducer});
  CHECK(all.status == FitStatus::converged);
  CHECK(same(all, one));
  CHECK(all.full_passes == one.full_passes);

  const List<L2> penalties{L2{1e-5f}, L2{1e-2f}};
  const List<Refined> path =
      refine_path(store, naive, objective, penalties, {.threads = 2, .reducer = &reducer});
  const List<Refined> alone = refine_path(store, naive, objective, penalties);
  for (std::size_t k = 0; k < 2; ++k) CHECK(same(path[k], alone[k]));

  // Without the matrix, and with second derivatives that depend on the point, sums are floats: the optimum is the same.
  Dataset classes = train;
  for (Index i = 0; i < classes.rows; ++i)
    classes.labels[i] =
        static_cast<float>(train.labels[i] > 0.0f) + static_cast<float>(train.labels[i] > 0.5f);
  const auto of_classes = quantize<4>(classes, variance_corrected, {.outliers = 0.003});
  const auto check = [&](auto loss, const RefineOptions& options) {
    const RefinedClasses together =
        refine_classes(of_classes, variance_corrected, classes, loss, L2{1e-3f}, options);
    const RefinedClasses by_one = refine_classes(of_classes, variance_corrected, classes, loss, L2{1e-3f});
    for (std::size_t k = 0; k < 3; ++k) {
      CHECK(together.refined[k].status == FitStatus::converged);
      CHECK(std::fabs(together.refined[k].value - by_one.refined[k].value) <= 2e-6 * by_one.refined[k].value);
    }
  };
  check(LogisticLoss{}, {.reducer = &reducer});
  check(SoftmaxLoss{}, {.reducer = &reducer});
  check(LeastSquaresSvm{}, {.direct_columns = 10, .reducer = &reducer});

  // An observer of one process stops all of them.
  const Refined stopped = refine(
      store, naive, objective, {.tolerance = 0.0, .reducer = &reducer},
      [&](const EpochEvent&) { return reducer.rank() == reducer.workers() - 1 ? Flow::stop : Flow::go_on; });
  CHECK(stopped.status == FitStatus::stopped);
  CHECK(stopped.full_passes <= 2);
}

TEST_CASE("gradients of 1 to 8 bits with error feedback end within 1 % of float32's loss") {
  MpiReducer reducer(everybody(), patient);
  const Dataset& train = small_skewed();
  const auto store = quantize<4>(train, variance_corrected, {.outliers = 0.003});
  const Objective objective(train);
  const auto loss_of = [&](const Channel& gradient) {
    const Fit fit = Sgd{}.fit(store, {.batch = 128, .model = {8}, .gradient = gradient, .reducer = &reducer});
    CHECK(fit.success());
    return objective(fit.weights.span(), fit.intercept);
  };
  const double exact = loss_of({});
  for (const int bits : {1, 2, 4, 8}) {
    INFO(bits << " bits");
    CHECK(loss_of({.bits = bits, .error_feedback = true}) < 1.01 * exact);
    CHECK(loss_of({.bits = bits, .scaling = ChannelScaling::block, .block = 64, .error_feedback = true}) <
          1.01 * exact);
  }
  CHECK(loss_of({.bits = 8}) < 1.01 * exact);
  CHECK(loss_of({.bits = 6, .levels = ChannelLevels::optimal}) < 1.01 * exact);
}

TEST_CASE("what fails on one process fails on all of them, with its words") {
  Communicator all(everybody(), 120.0);
  CHECK(together(all, [] { return 7; }) == 7);
  const int last = all.size() - 1;
  const std::string of_last = message_of([&] {
    together(all, [&] {
      if (all.rank() == last) throw Error("no such file");
    });
  });
  const std::string who =
      all.size() == 1 ? "" : "process " + std::to_string(last) + " of " + std::to_string(all.size()) + ": ";
  CHECK(of_last == who + "no such file");
  CHECK(message_of([&] { together(all, []() -> int { throw Error("no such file"); }); }) == "no such file");
}

TEST_CASE("a process that does not come is waited for as long as was said") {
  int size = 1, rank = 0;
  MPI_Comm_size(everybody(), &size);
  MPI_Comm_rank(everybody(), &rank);
  if (size == 1) return;  // nobody to wait for
  MpiReducer reducer(everybody(), {.timeout = 0.5});
  const auto start = std::chrono::steady_clock::now();
  if (rank == 0) {
    std::this_thread::sleep_for(std::chrono::seconds(3));
  } else {
    static float mine = 1.0f;  // the exchange ends late, and writes
    const std::string said = message_of([&] { reducer.largest(std::span<float>(&mine, 1)); });
    CHECK(said.find("another process does not answer") != std::string::npos);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    CHECK(seconds > 0.4);
    CHECK(seconds < 2.9);
  }
  // Late, so that the exchange has its end.
  if (rank == 0) reducer.Collective::largest(1.0f);
}
